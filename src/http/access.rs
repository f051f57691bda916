//! Who may have a route: the words of the table in `routes`, which `guard` enforces.

/// Who may have a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever the handler lets: it knows which camera is meant.
    Handler,
    /// Everybody, told apart by the handler, even if the password has to be changed first.
    Anyone,
    /// Whoever is logged in by the page, even if the password has to be changed first.
    Login,
    /// Whoever is logged in by the page.
    SettledLogin,
    /// Everybody with an account, by login or token.
    Person,
    /// Admins, by login or token.
    Admin,
    /// Admins who are logged in by the page: a token must not make accounts that outlive it.
    AdminLogin,
}

//! Who may use a route: the access levels of the table in `routes`, which `guard` enforces.

/// Who may use a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everybody.
    Open,
    /// The handler decides: it knows which camera is requested.
    Handler,
    /// Everybody; the handler gets the caller, even one whose password has to be changed first.
    Anyone,
    /// Users with a login cookie, even if the password has to be changed first.
    Login,
    /// Users with a login cookie.
    SettledLogin,
    /// Everybody with an account, by login or token.
    Person,
    /// Admins, by login or token.
    Admin,
    /// Admins with a login cookie: a token must not be able to create accounts that outlive it.
    AdminLogin,
}

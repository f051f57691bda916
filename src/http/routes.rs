//! The table of all routes and who may use them. A test requests each of them as each kind of caller. Apart from the
//! pages' files, nothing else is served.

use std::collections::HashSet;

use axum::http::Method;
use axum::routing::{MethodRouter, any, delete, get, post, put};

use super::access::Access;
use super::{
    App, account, admin_cameras, assets, calls, cameras, compat, embed, health, layers, log, login,
    onboarding, permissions, socket, tickets, users, whip_whep,
};

/// One route.
pub struct Route {
    /// The path in axum's syntax.
    pub path: &'static str,
    /// The methods that it accepts.
    pub methods: &'static [Method],
    /// Who may use it.
    pub access: Access,
    /// What handles it.
    pub handler: MethodRouter<App>,
}

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const DELETE: &[Method] = &[Method::DELETE];
const PUT: &[Method] = &[Method::PUT];

/// How the paths of this server begin.
pub fn first_segments() -> HashSet<String> {
    let routes = all().into_iter().filter_map(|route| route.path.split('/').nth(1).map(str::to_owned));
    routes.chain(assets::first_segments()).collect()
}

/// The table.
pub fn all() -> Vec<Route> {
    use Access::{Admin, AdminLogin, Anyone, Handler, Login, Open, Person, SettledLogin};
    let route = |path, methods, access, handler| Route { path, methods, access, handler };
    vec![
        route("/health", GET, Open, get(|| async { "ok\n" })),
        route("/ready", GET, Open, get(health::ready)),
        route("/api/admin/health", GET, Admin, get(health::problems)),
        route("/ca.crt", GET, Open, get(onboarding::certificate)),
        route("/ca.mobileconfig", GET, Open, get(onboarding::profile)),
        route("/api/onboarding", GET, Open, get(onboarding::facts)),
        route("/embed/camera/{id}", GET, Open, get(embed::page)),
        route("/api/login", POST, Open, post(login::log_in)),
        route("/api/logout", POST, Login, post(login::log_out)),
        route(
            "/whep/{*stream}",
            &[Method::POST, Method::GET, Method::OPTIONS],
            Handler,
            get(whip_whep::may_watch).post(whip_whep::watch).options(whip_whep::options),
        ),
        route(
            "/whip/{*stream}",
            &[Method::POST, Method::GET, Method::OPTIONS],
            Handler,
            get(whip_whep::may_publish).post(whip_whep::publish).options(whip_whep::options),
        ),
        route(
            "/session/{id}",
            &[Method::PATCH, Method::DELETE, Method::GET, Method::OPTIONS],
            Open,
            get(whip_whep::show_session)
                .patch(whip_whep::change_session)
                .delete(whip_whep::end_session)
                .options(whip_whep::session_options),
        ),
        route(
            "/session/{id}/layer",
            &[Method::POST, Method::OPTIONS],
            Open,
            post(layers::select).options(layers::options),
        ),
        route("/api/cameras", GET, Handler, get(cameras::list)),
        route("/api/cameras/{id}", GET, Handler, get(cameras::one)),
        route("/api/tickets", POST, Person, post(tickets::make)),
        route("/api/calls", GET, SettledLogin, get(calls::list)),
        route("/api/calls/seen", PUT, SettledLogin, put(calls::seen)),
        route("/api/ws", GET, SettledLogin, any(socket::open)),
        route("/api/me", GET, Anyone, get(account::show)),
        route("/api/me", PUT, Login, put(account::change)),
        route(
            "/api/me/preferences",
            &[Method::GET, Method::PUT],
            SettledLogin,
            get(account::preferences).put(account::set_preferences),
        ),
        route("/api/me/password", PUT, Login, put(account::change_password)),
        route(
            "/api/me/logins",
            &[Method::GET, Method::DELETE],
            SettledLogin,
            get(account::logins).delete(account::end_other_logins),
        ),
        route("/api/me/logins/{id}", DELETE, SettledLogin, delete(account::end_login)),
        route(
            "/api/me/tokens",
            &[Method::GET, Method::POST],
            SettledLogin,
            get(account::tokens).post(account::make_token),
        ),
        route("/api/me/credentials", DELETE, SettledLogin, delete(account::end_everything)),
        route("/api/me/tickets", GET, SettledLogin, get(account::tickets)),
        route("/api/me/tickets/{id}", DELETE, SettledLogin, delete(account::end_ticket)),
        route("/api/me/tokens/{id}", DELETE, SettledLogin, delete(account::end_token)),
        route("/api/admin/users", GET, Admin, get(users::list)),
        route("/api/admin/users", POST, AdminLogin, post(users::add)),
        route(
            "/api/admin/users/{name}",
            &[Method::PATCH, Method::DELETE],
            AdminLogin,
            axum::routing::patch(users::change).delete(users::remove),
        ),
        route("/api/admin/users/{name}/password", PUT, AdminLogin, put(users::reset_password)),
        route("/api/admin/users/{name}/logins", GET, Admin, get(users::logins)),
        route("/api/admin/users/{name}/logins/{id}", DELETE, Admin, delete(users::end_login)),
        route("/api/admin/users/{name}/tokens", GET, Admin, get(users::tokens)),
        route("/api/admin/users/{name}/tokens/{id}", DELETE, Admin, delete(users::end_token)),
        route("/api/admin/users/{name}/tickets", GET, Admin, get(users::tickets)),
        route("/api/admin/users/{name}/tickets/{id}", DELETE, Admin, delete(users::end_ticket)),
        route("/api/admin/users/{name}/credentials", DELETE, AdminLogin, delete(users::end_everything)),
        route("/api/admin/groups", GET, Admin, get(users::groups)),
        route(
            "/api/admin/groups/{name}",
            &[Method::PUT, Method::DELETE],
            Admin,
            put(users::set_group).delete(users::remove_group),
        ),
        route(
            "/api/admin/cameras",
            &[Method::GET, Method::POST],
            Admin,
            get(admin_cameras::list).post(admin_cameras::add),
        ),
        route("/api/admin/probe", POST, Admin, post(admin_cameras::probe)),
        route(
            "/api/admin/cameras/{id}",
            &[Method::PUT, Method::DELETE],
            Admin,
            put(admin_cameras::change).delete(admin_cameras::remove),
        ),
        route("/api/admin/cameras/{id}/allow", PUT, Admin, put(admin_cameras::allow)),
        route(
            "/api/admin/permissions",
            &[Method::GET, Method::PUT],
            Admin,
            get(permissions::show).put(permissions::change),
        ),
        route("/api/admin/compat", GET, Admin, get(compat::list)),
        route("/api/admin/compat/clients/{id}", DELETE, Admin, delete(compat::disconnect)),
        route("/api/admin/log", GET, Admin, get(log::list)),
        route("/api/admin/log.csv", GET, Admin, get(log::csv)),
    ]
}

//! Every route, requested by every kind of caller. A route that is missing in the table fails the test.

use std::collections::BTreeMap;

use crate::support::{Server, bearer, http, server};
use gatehouse::accounts::permissions::{Role, Scopes};
use gatehouse::accounts::users::NewUser;
use gatehouse::http::routes;
use gatehouse::secret::Secret;
use serde_json::json;

/// Callers: without a login, with a ticket for the simulated camera, a guest, a member, a dispatcher, an admin,
/// an admin whose password has to be changed; a token of the admin for watching, one for managing.
///
/// Results: `.` the guard lets it through (whatever the handler then answers), `1` 401, `3` 403, `4` 404.
const TABLE: &str = "
GET /health                               .........
GET /ready                                .........
GET /ca.crt                               .........
GET /ca.mobileconfig                      .........
GET /api/onboarding                       .........
GET /embed/camera/{id}                    .........
POST /api/login                           .........
POST /api/logout                          13.....33
OPTIONS /whep/{*stream}                   .........
POST /whep/{*stream}                      1.4...3.3
GET /whep/{*stream}                       1.4...3.3
OPTIONS /whip/{*stream}                   .........
POST /whip/{*stream}                      134444333
GET /whip/{*stream}                       134444333
PATCH /session/{id}                       444444444
DELETE /session/{id}                      444444444
GET /session/{id}                         444444444
OPTIONS /session/{id}                     .........
POST /session/{id}/layer                  444444444
OPTIONS /session/{id}/layer               .........
GET /api/cameras                          1.....3..
GET /api/cameras/{id}                     1.4...3.4
POST /api/tickets                         13....3..
GET /api/calls                            13....333
PUT /api/calls/seen                       13....333
GET /api/ws                               13....333
GET /api/me                               .........
PUT /api/me                               13.....33
GET /api/me/preferences                   13....333
PUT /api/me/preferences                   13....333
PUT /api/me/password                      13.....33
GET /api/me/logins                        13....333
DELETE /api/me/logins                     13....333
DELETE /api/me/logins/{id}                134444333
DELETE /api/me/credentials                13....333
GET /api/me/tickets                       13....333
DELETE /api/me/tickets/{id}               134444333
GET /api/me/tokens                        13....333
POST /api/me/tokens                       13....333
DELETE /api/me/tokens/{id}                134444333
GET /api/admin/health                     13333.33.
GET /api/admin/users                      13333.33.
POST /api/admin/users                     13333.333
PATCH /api/admin/users/{name}             13333.333
DELETE /api/admin/users/{name}            133334333
PUT /api/admin/users/{name}/password      13333.333
GET /api/admin/users/{name}/logins        133334334
DELETE /api/admin/users/{name}/logins/{id} 133334334
GET /api/admin/users/{name}/tokens        133334334
DELETE /api/admin/users/{name}/tokens/{id} 133334334
GET /api/admin/users/{name}/tickets       133334334
DELETE /api/admin/users/{name}/tickets/{id} 133334334
DELETE /api/admin/users/{name}/credentials 133334333
GET /api/admin/groups                     13333.33.
PUT /api/admin/groups/{name}              13333.33.
DELETE /api/admin/groups/{name}           133334334
GET /api/admin/cameras                    13333.33.
POST /api/admin/cameras                   13333.33.
POST /api/admin/probe                     13333.33.
PUT /api/admin/cameras/{id}               13333.33.
DELETE /api/admin/cameras/{id}            133334334
PUT /api/admin/cameras/{id}/allow         13333.33.
GET /api/admin/permissions                13333.33.
PUT /api/admin/permissions                13333.33.
GET /api/admin/compat                     13333.33.
DELETE /api/admin/compat/clients/{id}     133334334
GET /api/admin/log                        13333.33.
GET /api/admin/log.csv                    13333.33.
";

async fn callers(server: &Server) -> Vec<reqwest::Client> {
    let accounts = server.gatehouse.accounts();
    let ticket = server.send(&server.http(), "POST", "/api/tickets", json!({ "camera": "demo" })).await.1;
    let mut callers = vec![http(), bearer(ticket["token"].as_str().unwrap())];
    for role in Role::ALL {
        callers.push(server.user(role.as_str().replace("admin", "ada").as_str(), role).await);
    }
    let new = NewUser {
        name: "new".into(),
        display: String::new(),
        role: Role::Admin,
        groups: vec![],
        must_change: true,
    };
    accounts.add_user(new, &Secret::new(crate::support::PASSWORD)).await.unwrap();
    callers.push(server.log_in("new").await);
    let watch = Scopes { watch: true, ..Scopes::default() };
    let manage = Scopes { manage: true, ..Scopes::default() };
    for scopes in [watch, manage] {
        callers.push(bearer(accounts.add_token("admin", "sweep", scopes, None).await.unwrap().expose()));
    }
    callers
}

/// Uses names that exist for harmless requests, and names that do not exist for the others.
fn path(route: &str) -> String {
    let route = route.replace("{*stream}", "camera/demo").replace("/api/cameras/{id}", "/api/cameras/demo");
    route.replace("/{name}", "/nobody-here").replace("{id}", "999999")
}

#[tokio::test]
async fn every_caller_gets_the_expected_status() {
    let server = server("").await;
    let mut found = BTreeMap::new();
    for route in routes::all() {
        for method in route.methods {
            found.insert(format!("{method} {}", route.path), path(route.path));
        }
    }
    let mut expected = BTreeMap::new();
    for line in TABLE.trim().lines() {
        let (route, marks) = line.rsplit_once(' ').unwrap();
        expected.insert(route.trim().to_owned(), marks.to_owned());
    }
    let missing: Vec<_> = found.keys().filter(|route| !expected.contains_key(*route)).collect();
    assert!(missing.is_empty(), "no entry in the table: {missing:?}");
    let gone: Vec<_> = expected.keys().filter(|route| !found.contains_key(*route)).collect();
    assert!(gone.is_empty(), "no longer served: {gone:?}");

    let mut callers = callers(&server).await;
    let mut wrong = Vec::new();
    // What ends logins comes last, and last of all what ends everything: that is asked with new ones.
    let endings = ["POST /api/logout", "DELETE /api/me/credentials"];
    let (mut last, first): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(route, _)| endings.contains(&route.as_str()));
    last.sort_by_key(|(route, _)| endings.iter().position(|ending| ending == route));
    let mut server = server;
    for (route, path) in first.into_iter().chain(last) {
        if route == endings[1] {
            server = crate::support::server("").await;
            callers = self::callers(&server).await;
        }
        let method = reqwest::Method::from_bytes(route.split(' ').next().unwrap().as_bytes()).unwrap();
        let mut marks = String::new();
        for caller in &callers {
            let response = caller.request(method.clone(), server.url(&path)).send().await.unwrap();
            marks.push(match response.status().as_u16() {
                401 => '1',
                403 => '3',
                404 => '4',
                500.. => '!',
                _ => '.',
            });
        }
        if marks != expected[&route] {
            wrong.push(format!("{route}: {marks}, expected {}", expected[&route]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let server = server("").await;
    for path in ["/api", "/api/none", "/whep", "/../Cargo.toml", "/web/index.html", "/.git/config", "/i18n/"]
    {
        let status = server.http().get(server.url(path)).send().await.unwrap().status();
        assert_eq!(status, 404, "{path}");
    }
    assert_eq!(server.http().post(server.url("/")).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn every_answer_has_security_headers() {
    let server = server("[[camera]]\nid = \"c\"\nurl = \"rtsp://127.0.0.1:1/x\"\n").await;
    for path in ["/", "/login", "/health", "/api/cameras", "/none", "/whep/camera/c"] {
        let response = http().get(server.url(path)).send().await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'self'; ") && policy.ends_with("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(header("permissions-policy").contains("camera=(self)"));
        assert!(["no-store", "no-cache"].contains(&header("cache-control").as_str()));
    }
    let embed = http().get(server.url("/embed/camera/c")).send().await.unwrap();
    let policy = embed.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.ends_with("frame-ancestors 'self'"), "{policy}");
}

#[tokio::test]
async fn frames_are_allowed_where_the_configuration_says() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let more = "embed_from = [\"https://intranet.example\"]\n";
    let server = crate::support::server_in(folder, "127.0.0.1:0", more).await;
    let embed = http().get(server.url("/embed/camera/c")).send().await.unwrap();
    let policy = embed.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.ends_with("frame-ancestors 'self' https://intranet.example"), "{policy}");
}

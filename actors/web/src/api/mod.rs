//! `/api/v1`: what there is, for whom. `openapi.json` beside this file says the
//! same for readers; a test holds the two together.

mod account;
mod data;

use actix_web::web;

use crate::accounts::Role;

pub const PREFIX: &str = "/api/v1";
pub const OPENAPI: &str = include_str!("openapi.json");

/// One method of one path; `role` is the least that may use it, `None` is everybody.
#[derive(Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub role: Option<Role>,
}

const fn route(method: &'static str, path: &'static str, role: Option<Role>) -> Route {
    Route { method, path, role }
}

/// Everything; what is missing here is not served.
pub const ROUTES: &[Route] = &[
    route("GET", "/openapi.json", None),
    route("POST", "/login", None),
    route("POST", "/logout", Some(Role::Viewer)),
    route("GET", "/me", Some(Role::Viewer)),
    route("POST", "/password", Some(Role::Viewer)),
    route("GET", "/tokens", Some(Role::Viewer)),
    route("POST", "/tokens", Some(Role::Viewer)),
    route("DELETE", "/tokens/{id}", Some(Role::Viewer)),
    route("GET", "/users", Some(Role::Administrator)),
    route("POST", "/users", Some(Role::Administrator)),
    route("DELETE", "/users/{name}", Some(Role::Administrator)),
    route("POST", "/query", Some(Role::Viewer)),
    route("DELETE", "/query/{id}", Some(Role::Viewer)),
    route("GET", "/dimensions", Some(Role::Viewer)),
    route("GET", "/complete", Some(Role::Viewer)),
    route("GET", "/status", Some(Role::Viewer)),
    route("GET", "/flows", Some(Role::Viewer)),
    route("GET", "/live", Some(Role::Viewer)),
    route("GET", "/routes/lookup", Some(Role::Analyst)),
    route("GET", "/routes/history", Some(Role::Analyst)),
    route("GET", "/graph", Some(Role::Analyst)),
    route("GET", "/graph/path", Some(Role::Analyst)),
];

pub fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/openapi.json", web::get().to(data::openapi))
        .route("/login", web::post().to(account::login))
        .route("/logout", web::post().to(account::logout))
        .route("/me", web::get().to(account::me))
        .route("/password", web::post().to(account::password))
        .service(
            web::resource("/tokens").route(web::get().to(account::tokens)).route(web::post().to(account::create_token)),
        )
        .route("/tokens/{id}", web::delete().to(account::remove_token))
        .service(
            web::resource("/users").route(web::get().to(account::users)).route(web::post().to(account::create_user)),
        )
        .route("/users/{name}", web::delete().to(account::remove_user))
        .route("/query", web::post().to(data::query))
        .route("/query/{id}", web::delete().to(data::cancel))
        .route("/dimensions", web::get().to(data::dimensions))
        .route("/complete", web::get().to(data::complete))
        .route("/status", web::get().to(data::status))
        .route("/flows", web::get().to(data::flows))
        .route("/live", web::get().to(data::live))
        .route("/routes/lookup", web::get().to(data::lookup))
        .route("/routes/history", web::get().to(data::history))
        .route("/graph", web::get().to(data::graph))
        .route("/graph/path", web::get().to(data::graph_path))
        .default_service(web::to(data::nothing));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_names_every_route_and_no_other() -> anyhow::Result<()> {
        let description: serde_json::Value = serde_json::from_str(OPENAPI)?;
        let mut described = BTreeSet::new();
        for (path, methods) in description["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                assert!(operation["summary"].is_string(), "{method} {path} has no summary");
                assert!(operation["responses"].is_object(), "{method} {path} has no responses");
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
        let served: BTreeSet<_> = ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
        assert_eq!(described, served);
        Ok(())
    }
}

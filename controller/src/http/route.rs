//! A route: its handler, who may use it, and what goes in and out, in one place.
//!
//! The router, the table of rights and the OpenAPI document are made from the same list
//! (`routes/`), so that none can know a route that the others do not.

use super::access::{Access, Reach};
use super::{audit, auth, etag, finish, limits, once};
use crate::app::App;
use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;
use std::sync::Arc;

/// Makes the schema of a type, with what it refers to left in the generator.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Value;

/// What is in a body.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// JSON of a type.
    Json(SchemaOf),
    /// Bytes as they are.
    Bytes,
    /// Server-sent events.
    Events,
}

/// A route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, from the top.
    pub path: String,
    /// Who may use it.
    pub access: Access,
    /// In a sentence.
    pub summary: &'static str,
    /// Type of its query.
    pub query: Option<SchemaOf>,
    /// What it takes, and whether it has to come.
    pub body: Option<(Content, bool)>,
    /// What it answers if all is well.
    pub answers: Vec<(u16, &'static str, Option<Content>)>,
    /// There is a newer way.
    pub deprecated: bool,
    /// Honours `If-Match`.
    pub matches: bool,
    /// Honours `If-None-Match` as what must not be there yet.
    pub makes: bool,
    /// May wait for something to happen.
    pub waits: bool,
    /// How its requests are told apart, where they name themselves.
    pub traits: once::Traits,
    handler: MethodRouter<Arc<App>>,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

macro_rules! methods {
    ($($name:ident $method:ident $of:path;)*) => {
        $(
            #[doc = concat!("A route of the method `", stringify!($method), "`.")]
            pub fn $name<H: Handler<T, Arc<App>>, T: 'static>(path: &str, handler: H) -> Route {
                Route::new(Method::$method, path, $of(handler))
            }
        )*
    };
}

/// Routes by their methods.
pub mod on {
    use super::*;
    methods! {
        read GET get;
        send POST post;
        set PUT put;
        alter PATCH patch;
        remove DELETE delete;
    }
}

impl Route {
    fn new(method: Method, path: &str, handler: MethodRouter<Arc<App>>) -> Self {
        Self {
            method,
            path: path.to_owned(),
            access: Access::nobody(),
            summary: "",
            query: None,
            body: None,
            answers: Vec::new(),
            deprecated: false,
            matches: false,
            makes: false,
            waits: false,
            traits: once::Traits::default(),
            handler,
        }
    }

    /// The same below another path.
    #[must_use]
    pub fn below(mut self, top: &str) -> Self {
        self.path.insert_str(0, top);
        self
    }

    /// What it does, in a sentence.
    #[must_use]
    pub fn says(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    /// How far the right of a member, an operator and the health check goes.
    #[must_use]
    pub fn may(mut self, member: Reach, operator: Reach, health: Reach) -> Self {
        self.access = Access::of(member, operator, health);
        self
    }

    /// For whoever has a token, also one for no tenant yet.
    #[must_use]
    pub fn for_known(mut self) -> Self {
        self.access = Access::known();
        self
    }

    /// For whoever asks.
    #[must_use]
    pub fn for_anybody(mut self) -> Self {
        self.access = Access::open();
        self
    }

    /// Its query.
    #[must_use]
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(schema::<T>);
        self
    }

    /// Its body, which has to come.
    #[must_use]
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some((Content::Json(schema::<T>), true));
        self
    }

    /// Its body, which may be empty.
    #[must_use]
    pub fn may_take<T: JsonSchema>(mut self) -> Self {
        self.body = Some((Content::Json(schema::<T>), false));
        self
    }

    /// Its body of bytes.
    #[must_use]
    pub fn takes_bytes(mut self) -> Self {
        self.body = Some((Content::Bytes, true));
        self.traits.streamed = true;
        self
    }

    /// An answer of JSON.
    #[must_use]
    pub fn answers<T: JsonSchema>(mut self, status: u16, when: &'static str) -> Self {
        self.answers.push((status, when, Some(Content::Json(schema::<T>))));
        self
    }

    /// An answer without a body, or of something else than JSON.
    #[must_use]
    pub fn answers_with(mut self, status: u16, when: &'static str, content: Option<Content>) -> Self {
        self.answers.push((status, when, content));
        self
    }

    /// There is a newer way.
    #[must_use]
    pub fn deprecated(mut self) -> Self {
        self.deprecated = true;
        self
    }

    /// It honours `If-Match`.
    #[must_use]
    pub fn matches(mut self) -> Self {
        self.matches = true;
        self
    }

    /// It honours `If-None-Match` as what must not be there yet.
    #[must_use]
    pub fn makes(mut self) -> Self {
        self.makes = true;
        self
    }

    /// It may wait for something to happen.
    #[must_use]
    pub fn waits(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Its answer holds a secret.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.traits.secret = true;
        self
    }

    /// Whether its requests may name themselves (`Idempotency-Key`): those that make something. Other methods are
    /// the same when they are asked for twice.
    #[must_use]
    pub fn once_by_key(&self) -> bool {
        self.method == Method::POST && !self.access.open
    }
}

/// The router of routes, each behind the check of who calls.
pub fn router(routes: Vec<Route>, app: &Arc<App>) -> Router<Arc<App>> {
    routes.into_iter().fold(Router::new(), |router, route| {
        let check = axum::middleware::from_fn_with_state((app.clone(), route.access), auth::authenticate);
        // beside the layer, not under it: a method that a path does not have is told to anybody
        let trail = axum::middleware::from_fn_with_state(app.clone(), audit::record);
        let tags = axum::middleware::from_fn_with_state(route.matches, etag::conditional);
        let mut handler = route.handler.clone().route_layer(tags).route_layer(trail);
        if route.waits {
            handler = handler.route_layer(axum::middleware::from_fn(finish::before_waiting));
        }
        if route.once_by_key() {
            handler =
                handler.route_layer(axum::middleware::from_fn_with_state((app.clone(), route.traits), once::by_key));
        }
        let fair = axum::middleware::from_fn_with_state((app.clone(), route.waits), limits::fair);
        let at_once = axum::middleware::from_fn_with_state((app.clone(), route.waits), limits::at_once);
        handler = handler.route_layer(fair).route_layer(check).route_layer(at_once);
        if !route.waits {
            handler = handler.route_layer(axum::middleware::from_fn(finish::begun));
        }
        router.route(&route.path, handler)
    })
}

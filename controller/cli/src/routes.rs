//! Every route of the API that this program uses, once: what is not here is not asked for.
//!
//! A path is filled in from its variable parts, percent-encoded, so that no name can become a path
//! or a query of its own. A test compares the table with what the controller serves.

use http::Method;

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// Below the API's root; parts in braces vary.
    pub path: &'static str,
}

macro_rules! routes {
    ($($name:ident = $method:literal $path:literal;)*) => {
        $(#[doc = concat!("`", $method, " ", $path, "`")] pub const $name: Route = Route { method: $method, path: $path };)*
        /// All of them.
        #[cfg(test)]
        pub const ALL: &[Route] = &[$($name),*];
    };
}

routes! {
    TOPOLOGIES = "GET" "/topologies";
    CREATE = "POST" "/topologies";
    TOPOLOGY = "GET" "/topologies/{id}";
    DELETE = "DELETE" "/topologies/{id}";
    ADD = "POST" "/topologies/{id}/components";
    TOPOLOGY_COMMANDS = "POST" "/topologies/{id}/commands";
    FLEXUP = "POST" "/components/{id}";
    PATCH = "PATCH" "/components/{id}";
    COMPONENT = "GET" "/components/{id}";
    REMOVE = "DELETE" "/components/{id}";
    COMPONENT_START = "POST" "/components/{id}/services";
    COMPONENT_STOP = "DELETE" "/components/{id}/services";
    COMPONENT_RESTART = "PUT" "/components/{id}/services";
    CONFIGURE = "PUT" "/components/{id}/tree/{ref}";
    DEPENDENCIES = "POST" "/components/{id}/dependencies";
    COMPONENT_COMMANDS = "POST" "/components/{id}/commands";
    CONFIG_TOP = "GET" "/configurations/tree/{ref}";
    CONFIG_READ = "GET" "/configurations/tree/{ref}/{*path}";
    CONFIG_WRITE = "PUT" "/configurations/tree/{ref}/{*path}";
    TAGS = "GET" "/configurations/tree/{ref}/tags";
    TAG_CREATE = "POST" "/configurations/tree/{ref}/tags";
    TAG_DELETE = "DELETE" "/configurations/tree/{ref}/tags/{tag}";
    CONFIG_DIFF = "GET" "/configurations/diff/{range}";
    CONFIG_LOG_TOP = "GET" "/configurations/log/{ref}";
    CONFIG_LOG = "GET" "/configurations/log/{ref}/{*path}";
    BLAME = "GET" "/configurations/blame/{ref}/{*path}";
    UPDATES = "GET" "/configurations/updates/{component_id}";
    UPDATES_TAKE = "POST" "/configurations/updates/{component_id}";
    EFFECTIVE = "GET" "/configurations/effective/{component_id}";
    SETTINGS = "GET" "/configurations/settings";
    RESEAL = "POST" "/configurations/reseal";
    NODE_HISTORY = "GET" "/nodes/{id}/history";
    JOBS = "GET" "/jobs";
    JOB = "GET" "/jobs/{id}";
    JOB_EVENTS = "GET" "/jobs/{id}/events";
    JOB_PAUSE = "POST" "/jobs/{id}/pause";
    JOB_RESUME = "POST" "/jobs/{id}/resume";
    JOB_CANCEL = "POST" "/jobs/{id}/cancel";
    ROLLOUTS = "GET" "/rollouts";
    ROLLOUT_START = "POST" "/rollouts";
    ROLLOUT = "GET" "/rollouts/{id}";
    ROLLOUT_PAUSE = "POST" "/rollouts/{id}/pause";
    ROLLOUT_RESUME = "POST" "/rollouts/{id}/resume";
    ROLLOUT_CANCEL = "POST" "/rollouts/{id}/cancel";
    NODES = "GET" "/nodes";
    NODE = "GET" "/nodes/{id}";
    REPLACE = "PUT" "/nodes/{id}";
    FLEXDOWN = "DELETE" "/nodes/{id}";
    NODE_START = "POST" "/nodes/{id}/services";
    NODE_STOP = "DELETE" "/nodes/{id}/services";
    NODE_RESTART = "PUT" "/nodes/{id}/services";
    NODE_COMMANDS = "POST" "/nodes/{id}/commands";
    SYNC = "PUT" "/nodes/scripts";
    QUARANTINE = "GET" "/quarantine";
    RELEASE = "DELETE" "/quarantine/{what}/{key}";
    COMMANDS = "GET" "/commands";
    COMMAND = "GET" "/commands/{id}";
    COMMAND_CANCEL = "POST" "/commands/{id}/cancel";
    COMMAND_EVENTS = "GET" "/commands/{id}/events";
    BATCH = "GET" "/batches/{id}";
    BATCH_CANCEL = "POST" "/batches/{id}/cancel";
    GUESTCMDS = "GET" "/guestcmds";
    LOG_IN = "POST" "/auth/tokens";
    OWN_TENANTS = "GET" "/auth/tenants";
    WHO = "GET" "/auth/token";
    HOSTS = "GET" "/hosts";
    HOST_ADD = "POST" "/hosts";
    HOST = "GET" "/hosts/{id}";
    HOST_CHANGE = "PATCH" "/hosts/{id}";
    HOST_REMOVE = "DELETE" "/hosts/{id}";
    JOIN_TOKENS = "GET" "/join-tokens";
    JOIN_TOKEN_CREATE = "POST" "/join-tokens";
    JOIN_TOKEN = "GET" "/join-tokens/{id}";
    JOIN_TOKEN_REVOKE = "DELETE" "/join-tokens/{id}";
    AUTHORITY = "GET" "/authority";
    AUTHORITY_ROTATE = "POST" "/authority/rotation";
    AUTHORITY_ADVANCE = "POST" "/authority/rotation/advance";
    AUTHORITY_BACK = "DELETE" "/authority/rotation";
    TOKENS = "GET" "/tokens";
    TOKEN_CREATE = "POST" "/tokens";
    TOKEN_REVOKE = "DELETE" "/tokens/{id}";
    TENANTS = "GET" "/tenants";
    TENANT_ADD = "POST" "/tenants";
    TENANT_REMOVE = "DELETE" "/tenants/{id}";
    USERS = "GET" "/users";
    USER_ADD = "POST" "/users";
    USER_REMOVE = "DELETE" "/users/{name}";
    USER = "GET" "/users/{name}";
    USER_PASSWORD = "PUT" "/users/{name}/password";
    ROLE_GIVE = "PUT" "/users/{name}/tenants/{tenant}";
    ROLE_TAKE = "DELETE" "/users/{name}/tenants/{tenant}";
    AUDIT = "GET" "/audit";
    FILES_ALL = "GET" "/storage/{storage}/regions/{region}";
    FILES = "GET" "/storage/{storage}/regions/{region}/{*path}";
    FILE_PUT = "POST" "/storage/{storage}/regions/{region}/{*path}";
    FILE_REMOVE = "DELETE" "/storage/{storage}/regions/{region}/{*path}";
    UPLOAD = "GET" "/storage/{storage}/uploads/{sha256}";
    FILES_GIVE = "POST" "/nodes/files";
    FILES_TAKE = "POST" "/nodes/files/removal";
    CMS = "GET" "/topologies/{id}/cms";
    CMS_CREATE = "POST" "/topologies/{id}/cms";
    CMS_SYNC = "PUT" "/topologies/{id}/cms";
    CMS_REMOVE = "DELETE" "/topologies/{id}/cms";
    FLAVORS = "GET" "/components/{id}/nova_flavors";
    STATUS = "POST" "/components/{id}/status";
    DISCOVERY = "GET" "/discovery/prometheus";
}

impl Route {
    /// The method as the client wants it.
    pub fn method(&self) -> Method {
        Method::from_bytes(self.method.as_bytes()).unwrap_or(Method::GET)
    }

    /// The path with its variable parts in place, in their order.
    pub fn at(&self, parts: &[&str]) -> String {
        let mut parts = parts.iter();
        let filled = self.path.split('/').skip(1).map(|step| {
            if !step.starts_with('{') {
                return step.to_owned();
            }
            let part = parts.next().copied().unwrap_or_default();
            if step.starts_with("{*") {
                part.split('/').filter(|piece| !piece.is_empty()).map(encoded).collect::<Vec<_>>().join("/")
            } else {
                encoded(part)
            }
        });
        format!("/{}", filled.collect::<Vec<_>>().join("/"))
    }
}

/// A text as one part of a path or as a value of a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    // what a server would take for "here" and "above"
    match out.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_becomes_a_path_or_a_query() {
        assert_eq!(TOPOLOGY.at(&["a/b?c=d#e"]), "/topologies/a%2Fb%3Fc%3Dd%23e");
        assert_eq!(
            CONFIG_READ.at(&["demo@az&v 1", "app/x/ü.json"]),
            "/configurations/tree/demo@az%26v%201/app/x/%C3%BC.json"
        );
        assert_eq!(NODE.at(&[".."]), "/nodes/%2E%2E");
        assert_eq!(CONFIG_DIFF.at(&["a...b"]), "/configurations/diff/a...b");
    }

    /// What the API offers and no command needs, and why.
    const NOT_NEEDED: [&str; 12] = [
        "GET /configurations/tree/{ref}/", // the same as without the slash
        "GET /nodes/{id}/why",             // shown with its node
        "GET /topologies/{id}/events",     // its jobs' events are followed
        "GET /commands/{id}/output",       // shown with the command
        "GET /tenants/{id}",               // shown in the list
        "GET /tokens/{id}",                // shown in the list
        "DELETE /auth/token",              // revoked by its id
        // the same as without the slash
        "GET /storage/{storage}/regions/{region}/",
        // the old spelling of topologies
        "GET /typologies/{id}/cms",
        "POST /typologies/{id}/cms",
        "PUT /typologies/{id}/cms",
        "DELETE /typologies/{id}/cms",
    ];

    #[test]
    fn no_route_of_the_document_is_missing() {
        let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json"));
        let document: serde_json::Value = serde_json::from_str(&document.expect("the document")).expect("json");
        let plain = |path: &str| path.replace("{*", "{");
        let known: Vec<_> = ALL.iter().map(|route| format!("{} {}", route.method, plain(route.path))).collect();
        let mut offered = Vec::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            let Some(path) = path.strip_prefix("/straas/v1.0") else { continue };
            let methods = operations.as_object().expect("operations").keys();
            offered.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
        }
        let missing: Vec<_> =
            offered.iter().filter(|route| !known.contains(route) && !NOT_NEEDED.contains(&route.as_str())).collect();
        assert!(missing.is_empty(), "no command asks for {missing:#?}");
        let stale: Vec<_> = known.iter().filter(|route| !offered.contains(route)).collect();
        assert!(stale.is_empty(), "the API does not offer {stale:#?}");
    }

    #[test]
    fn every_route_is_one_of_its_own() {
        for (i, route) in ALL.iter().enumerate() {
            assert!(!ALL[..i].contains(route), "{route:?} stands there twice");
            assert!(route.path.starts_with('/') && !route.method().as_str().is_empty());
        }
    }
}

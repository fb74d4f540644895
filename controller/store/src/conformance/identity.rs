//! Users, tenants and tokens.

use super::fixture::{component, is_conflict, is_duplicate, is_missing, job, topology};
use crate::{
    Membership, PageRequest, Store, StoreError, TOKENS_PER_USER_MAX, TenantRecord, TokenRecord, TokensOf, UserRecord,
};
use std::sync::Arc;
use straas_schemas::job::JobKind;

fn tenant(id: &str) -> TenantRecord {
    TenantRecord { id: id.to_owned(), created_ms: 1 }
}

fn role(tenant: &str, role: &str) -> Membership {
    Membership { tenant: tenant.to_owned(), role: role.to_owned() }
}

fn user(name: &str, memberships: &[Membership]) -> UserRecord {
    UserRecord {
        name: name.to_owned(),
        password: Some("$argon2id$".into()),
        created_ms: 2,
        revision: 1,
        memberships: memberships.to_vec(),
    }
}

fn token(id: &str, user: Option<&str>, scope: Option<Membership>, expires_ms: i64) -> TokenRecord {
    TokenRecord {
        id: id.to_owned(),
        hash: format!("hash of {id}"),
        label: "for \0 a test".to_owned(),
        user: user.map(str::to_owned),
        scope,
        by: "me".to_owned(),
        created_ms: 10,
        expires_ms,
    }
}

fn page(after: &str) -> PageRequest {
    PageRequest { after: Some(after.to_owned()), limit: 2 }
}

pub(super) async fn tenants_and_users_are_kept(store: Arc<dyn Store>) {
    for id in ["ida-1", "ida-2", "ida-3"] {
        store.add_tenant(&tenant(id)).await.unwrap();
    }
    assert!(is_duplicate(&store.add_tenant(&tenant("ida-2")).await));
    let listed = store.tenants(&page("ida-1")).await.unwrap();
    assert_eq!(listed, [tenant("ida-2"), tenant("ida-3")]);
    assert_eq!(store.tenant("ida-2").await.unwrap(), Some(tenant("ida-2")));
    assert_eq!(store.tenant("ida").await.unwrap(), None);

    let ann = user("ida-ann", &[role("ida-2", "operator"), role("ida-1", "member")]);
    store.add_user(&ann).await.unwrap();
    assert!(is_duplicate(&store.add_user(&ann).await));
    let lost = user("ida-lost", &[role("ida-1", "member"), role("ida-nowhere", "member")]);
    assert!(is_missing(&store.add_user(&lost).await));
    assert_eq!(store.user("ida-lost").await.unwrap(), None, "a refused user leaves nothing");
    store.add_user(&user("ida-bob", &[])).await.unwrap();
    let sorted = user("ida-ann", &[role("ida-1", "member"), role("ida-2", "operator")]);
    assert_eq!(store.user("ida-ann").await.unwrap(), Some(sorted.clone()));
    assert_eq!(store.users(None, &page("ida-aaa")).await.unwrap(), [sorted, user("ida-bob", &[])]);

    let names = async |tenant| {
        let found = store.users(Some(tenant), &page("ida-")).await.unwrap();
        found.into_iter().map(|user| user.name).collect::<Vec<_>>()
    };
    assert_eq!((names("ida-1").await, names("ida-3").await), (vec!["ida-ann".to_owned()], vec![]));
    store.set_membership("ida-bob", &role("ida-3", "member"), None).await.unwrap();
    store.set_membership("ida-bob", &role("ida-3", "operator"), None).await.unwrap();
    let bob = UserRecord { revision: 3, ..user("ida-bob", &[role("ida-3", "operator")]) };
    assert_eq!(store.user("ida-bob").await.unwrap(), Some(bob));
    assert!(is_missing(&store.set_membership("ida-nobody", &role("ida-3", "member"), None).await));
    assert!(is_missing(&store.set_membership("ida-bob", &role("ida-nowhere", "member"), None).await));
    assert!(store.end_membership("ida-bob", "ida-3", None).await.unwrap());
    assert!(!store.end_membership("ida-bob", "ida-3", None).await.unwrap());
    assert!(!store.end_membership("ida-nobody", "ida-3", None).await.unwrap());

    assert!(store.set_password("ida-bob", None, None).await.unwrap());
    assert!(!store.set_password("ida-nobody", None, None).await.unwrap());
    assert_eq!(store.user("ida-bob").await.unwrap().unwrap().password, None);
    assert!(store.remove_user("ida-bob", None).await.unwrap());
    assert!(!store.remove_user("ida-bob", None).await.unwrap());
}

pub(super) async fn users_change_as_they_were_seen(store: Arc<dyn Store>) {
    store.add_tenant(&tenant("idd-1")).await.unwrap();
    store.add_user(&user("idd-ann", &[])).await.unwrap();
    let revision = async || store.user("idd-ann").await.unwrap().unwrap().revision;
    assert_eq!(revision().await, 1);
    // of two who saw the same, one wins
    store.set_membership("idd-ann", &role("idd-1", "member"), Some(1)).await.unwrap();
    let late = store.set_password("idd-ann", None, Some(1)).await;
    assert!(matches!(late, Err(StoreError::Conflict { what: "user", .. })), "{late:?}");
    assert!(is_conflict(&store.set_membership("idd-ann", &role("idd-1", "operator"), Some(1)).await));
    assert!(is_conflict(&store.end_membership("idd-ann", "idd-1", Some(1)).await));
    assert!(is_conflict(&store.remove_user("idd-ann", Some(1)).await));
    let now = store.user("idd-ann").await.unwrap().unwrap();
    assert_eq!(
        (now.revision, now.password, now.memberships),
        (2, Some("$argon2id$".into()), vec![role("idd-1", "member")])
    );
    // whatever changes him raises it, and nothing else does
    store.set_password("idd-ann", None, Some(2)).await.unwrap();
    assert!(!store.end_membership("idd-ann", "idd-nowhere", Some(3)).await.unwrap());
    assert_eq!(revision().await, 3);
    assert!(store.remove_tenant("idd-1").await.unwrap());
    assert_eq!(revision().await, 4, "he lost a role with the tenant");
    assert!(store.remove_user("idd-ann", Some(4)).await.unwrap());
}

pub(super) async fn a_tenant_with_topologies_stays(store: Arc<dyn Store>) {
    let mut owned = topology("idb");
    owned.tenant = "idb-tenant".to_owned();
    store.add_tenant(&tenant("idb-tenant")).await.unwrap();
    store.add_user(&user("idb-ann", &[role("idb-tenant", "member")])).await.unwrap();
    let made = job(&owned, 1, JobKind::Create);
    store.create_topology(&owned, &[component(&owned, "zk", 0)], &made).await.unwrap();
    assert!(is_conflict(&store.remove_tenant("idb-tenant").await));
    store.forget_topology(&owned.id, 5, &[]).await.unwrap();
    let given = token("idb-1", None, Some(role("idb-tenant", "member")), 100);
    store.add_token(&given).await.unwrap();
    assert!(store.remove_tenant("idb-tenant").await.unwrap());
    assert!(!store.remove_tenant("idb-tenant").await.unwrap());
    assert_eq!(store.user("idb-ann").await.unwrap().unwrap().memberships, []);
    assert_eq!(store.token(&given.hash, 20).await.unwrap(), None, "its tokens went with it");
}

pub(super) async fn tokens_end(store: Arc<dyn Store>) {
    store.add_tenant(&tenant("idc-1")).await.unwrap();
    store.add_tenant(&tenant("idc-2")).await.unwrap();
    let both = [role("idc-1", "member"), role("idc-2", "member")];
    store.add_user(&user("idc-ann", &both)).await.unwrap();
    let ann = Some("idc-ann");
    let (bare, first) = (token("idc-a", ann, None, 100), token("idc-b", ann, Some(both[0].clone()), 200));
    let (second, program) =
        (token("idc-c", ann, Some(both[1].clone()), 200), token("idc-d", None, Some(both[0].clone()), 300));
    for one in [&bare, &first, &second, &program] {
        store.add_token(one).await.unwrap();
    }
    assert!(
        is_duplicate(&store.add_token(&TokenRecord { id: "idc-e".into(), ..first.clone() }).await),
        "one hash, one token"
    );
    assert!(is_missing(&store.add_token(&token("idc-f", Some("idc-nobody"), None, 100)).await));
    assert!(is_missing(&store.add_token(&token("idc-g", None, Some(role("idc-nowhere", "member")), 100)).await));
    let more = token("idc-h", ann, Some(role("idc-1", "operator")), 100);
    assert!(is_conflict(&store.add_token(&more).await), "not his role");

    let there = async |token: &TokenRecord, now_ms| store.token(&token.hash, now_ms).await.unwrap().is_some();
    let kept = store.token(&first.hash, 150).await.unwrap().unwrap();
    assert_eq!(kept, TokenRecord { label: "for \u{fffd} a test".into(), ..first.clone() });
    assert!(there(&bare, 99).await && !there(&bare, 100).await, "it ends at its time");
    assert_eq!(store.token_by_id(&first.id, 150).await.unwrap(), Some(kept));
    assert_eq!(store.token_by_id(&first.id, first.expires_ms).await.unwrap(), None);
    assert_eq!(store.token_by_id(&first.hash, 150).await.unwrap(), None, "a hash is no id");
    let listed: Vec<_> = store.tokens(TokensOf::Tenant("idc-1"), None, 50, &page("idc-")).await.unwrap();
    assert_eq!(listed.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["idc-b", "idc-d"]);
    let of_nobody = store.tokens(TokensOf::Tenant("idc-1"), Some("idc-nobody"), 50, &page("idc-")).await.unwrap();
    assert_eq!(of_nobody, []);
    let all = store.tokens(TokensOf::Everybody, None, 150, &page("idc-")).await.unwrap();
    assert_eq!(all.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["idc-b", "idc-c"]);

    assert!(!store.remove_token("idc-d", TokensOf::Tenant("idc-2")).await.unwrap(), "of another tenant");
    assert!(store.remove_token("idc-d", TokensOf::Tenant("idc-1")).await.unwrap());
    assert!(!store.remove_token("idc-d", TokensOf::Everybody).await.unwrap());
    store.set_membership("idc-ann", &role("idc-1", "operator"), None).await.unwrap();
    assert!(
        !there(&first, 20).await && there(&second, 20).await && there(&bare, 20).await,
        "another role, another token"
    );
    store.end_membership("idc-ann", "idc-2", None).await.unwrap();
    assert!(!there(&second, 20).await);
    store.set_password("idc-ann", Some("$new$"), None).await.unwrap();
    assert!(!there(&bare, 20).await, "a new password ends all");
}

pub(super) async fn log_ins_are_bounded(store: Arc<dyn Store>) {
    store.add_user(&user("idd-ann", &[])).await.unwrap();
    for n in 0..=i64::from(TOKENS_PER_USER_MAX) {
        store.add_token(&token(&format!("idd-{n:03}"), Some("idd-ann"), None, 1_000 + n)).await.unwrap();
    }
    let there = async |id: &str| store.token(&format!("hash of {id}"), 20).await.unwrap().is_some();
    assert!(!there("idd-000").await && there("idd-001").await, "the one that would end first made room");
}

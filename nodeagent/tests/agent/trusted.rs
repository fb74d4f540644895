//! Whom the agent trusts: told by a controller, on the disk before it says so, kept over a restart, and what is no good is not
//! taken.

use crate::controller::Controller;
use crate::end_to_end::{Node, local};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use straas_agent::trust::fingerprints;

fn authority(name: &str) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

#[tokio::test]
async fn other_authorities_are_trusted_for_good() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let shared = controller.shared.clone();
        let own = fingerprints(&controller.ca_pem).unwrap();
        let both = format!("{}{}", controller.ca_pem, authority("another"));
        let all = fingerprints(&both).unwrap();
        let mut node = Node::new(dir.path(), &controller);
        node.start();
        controller.until("it says whom it trusts", |_| shared.trusted.borrow().last() == Some(&own)).await;
        shared.faults.borrow_mut().trust = Some(both.clone());
        controller.until("it trusts both", |_| shared.trusted.borrow().last() == Some(&all)).await;
        let kept = std::fs::read(dir.path().join("agent/tls/trust.json")).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&kept).unwrap()["pem"], both);

        // over a restart, whatever it was set up with
        shared.faults.borrow_mut().trust = None;
        node.stop().await;
        shared.trusted.borrow_mut().clear();
        node.start();
        controller.until("it is back", |_| !shared.trusted.borrow().is_empty()).await;
        assert_eq!(shared.trusted.borrow().as_slice(), std::slice::from_ref(&all));

        // what is no good changes nothing, and it goes on asking
        shared.faults.borrow_mut().trust = Some("no certificate".into());
        let before = shared.seen.borrow().get("poll").copied().unwrap_or_default();
        controller
            .until("it asks again", |_| shared.seen.borrow().get("poll").is_some_and(|polls| *polls > before + 2))
            .await;
        assert_eq!(*shared.trusted.borrow(), [all]);

        // and the other one is dropped
        shared.faults.borrow_mut().trust = Some(controller.ca_pem.clone());
        controller.until("it trusts the one", |_| shared.trusted.borrow().last() == Some(&own)).await;
        node.stop().await;
    })
    .await;
}

#[tokio::test]
async fn one_whose_certificate_is_refused_comes_back_with_its_key() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let shared = controller.shared.clone();
        let mut node = Node::new(dir.path(), &controller);
        node.start();
        controller.until("it polls", |_| shared.certificates.borrow().len() == 1).await;
        node.stop().await;
        // as if the authority of its certificate were retired: of this one the controller knows nothing
        let tls = dir.path().join("agent/tls/current");
        let key = KeyPair::from_pem(&std::fs::read_to_string(tls.join("node.key")).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "retired");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let retired = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let old = CertificateParams::default().signed_by(&key, &retired).unwrap();
        std::fs::write(tls.join("node.pem"), old.pem()).unwrap();
        node.start();
        controller.until("it polls with another one", |_| shared.certificates.borrow().len() == 2).await;
        assert_eq!(shared.seen.borrow().get("come-back"), Some(&1));
        assert_eq!(shared.seen.borrow().get("enrol"), Some(&1), "no token was spent on it");
        node.stop().await;
    })
    .await;
}

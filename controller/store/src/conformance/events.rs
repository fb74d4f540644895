//! Events: numbered, paged, pruned.

use crate::{EVENTS_PER_TOPOLOGY_MAX, NewEvent, Store};
use std::sync::Arc;

fn event(topology: &str, number: u32) -> NewEvent {
    let node = number.is_multiple_of(2).then(|| "n-1".into());
    NewEvent {
        at_ms: i64::from(number),
        topology: topology.into(),
        node,
        kind: "stage",
        text: format!("event {number} 'é\"\0"),
    }
}

pub(super) async fn numbered_and_paged(store: Arc<dyn Store>) {
    assert_eq!(store.add_events(&[]).await.unwrap(), []);
    let first = store.add_events(&[event("e-a", 1), event("e-b", 2), event("e-a", 3)]).await.unwrap();
    let second = store.add_events(&[event("e-a", 4)]).await.unwrap();
    assert!(first[0].seq < first[1].seq && first[1].seq < first[2].seq && first[2].seq < second[0].seq);
    assert_eq!((first[1].topology.as_str(), first[1].kind.as_str(), first[1].at_ms), ("e-b", "stage", 2));
    assert_eq!((first[0].node.as_ref(), first[1].node.as_ref().map(|node| node.as_str())), (None, Some("n-1")));
    assert_eq!(first[1].text, "event 2 'é\"\u{fffd}");
    let topology = "e-a".into();
    assert_eq!(store.events(&topology, 0, 9).await.unwrap(), [first[0].clone(), first[2].clone(), second[0].clone()]);
    assert_eq!(store.events(&topology, first[0].seq, 1).await.unwrap(), [first[2].clone()]);
    assert_eq!(store.events(&topology, second[0].seq, 9).await.unwrap(), []);
    assert_eq!(store.events(&"e-nobody".into(), 0, 9).await.unwrap(), []);
}

pub(super) async fn pruned_per_topology(store: Arc<dyn Store>) {
    store.add_events(&[event("e-quiet", 1)]).await.unwrap();
    let many = EVENTS_PER_TOPOLOGY_MAX + 700;
    let events: Vec<_> = (0..many).map(|number| event("e-loud", number)).collect();
    for chunk in events.chunks(900) {
        store.add_events(chunk).await.unwrap();
    }
    let mut kept = Vec::new();
    loop {
        let after = kept.last().map_or(0, |event: &straas_schemas::view::Event| event.seq);
        let page = store.events(&"e-loud".into(), after, u32::MAX).await.unwrap();
        assert!(page.len() <= crate::PAGE_MAX as usize);
        if page.is_empty() {
            break;
        }
        kept.extend(page);
    }
    assert_eq!(kept.len(), EVENTS_PER_TOPOLOGY_MAX as usize);
    assert_eq!(kept[0].at_ms, 700, "the oldest went");
    assert_eq!(store.events(&"e-quiet".into(), 0, 9).await.unwrap().len(), 1);
}

//! What controllers tell each other. One case: numbers are of the whole database.

use crate::{Beside, NEWS_KEPT_MS, PRESENT_MS, Store, Word};
use std::sync::Arc;

pub(super) async fn words_are_heard_in_their_order(store: Arc<dyn Store>) {
    let topology = |id: &str| Word::Topology(id.into());
    let before = store.last_news().await.unwrap();
    let nothing = store.news("news-b", before).await.unwrap();
    assert_eq!((nothing.last, nothing.missed, nothing.words), (before, false, vec![]));
    let now = 5 * NEWS_KEPT_MS;
    store.say("news-a", &[topology("t1"), Word::Node("n1".into())], now).await.unwrap();
    store.say("news-a", &[], now).await.unwrap();
    store.say("news-b", &[topology("t2")], now).await.unwrap();
    store.say("news-a", &[Word::Rollouts], now + NEWS_KEPT_MS).await.unwrap();
    let heard = store.news("news-b", before).await.unwrap();
    assert_eq!(heard.words, [topology("t1"), Word::Node("n1".into()), Word::Rollouts], "not what one said oneself");
    assert_eq!((heard.last, heard.missed), (before + 3, false));
    assert_eq!(store.news("news-a", before).await.unwrap().words, [topology("t2")]);
    assert_eq!(store.news("news-b", heard.last).await.unwrap().words, []);
    assert_eq!(store.last_news().await.unwrap(), heard.last);
    // what was said long ago is forgotten, and whoever had not heard it is told so
    store.say("news-a", &[topology("t3")], now + NEWS_KEPT_MS + 1).await.unwrap();
    let late = store.news("news-b", before).await.unwrap();
    assert_eq!((late.words, late.missed), (vec![Word::Rollouts, topology("t3")], true));
    store.say("news-a", &[topology("t4")], now + 3 * NEWS_KEPT_MS).await.unwrap();
    let late = store.news("news-b", before).await.unwrap();
    assert_eq!((late.words, late.missed), (vec![topology("t4")], true));
    store.say("news-a", &vec![Word::Rollouts; crate::WORDS_MAX + 1], now).await.unwrap_err();

    // who is there
    let (level, at) = (store.level(), 10 * PRESENT_MS);
    let beside = |id: &str, version: &str| vec![Beside { id: id.into(), level, version: version.into() }];
    assert_eq!(store.present("news-a", "1.0.0", at).await.unwrap(), []);
    assert_eq!(store.present("news-b", "1.2.0", at + 1).await.unwrap(), beside("news-a", "1.0.0"));
    assert_eq!(store.present("news-a", "1.0.0", at + PRESENT_MS).await.unwrap(), beside("news-b", "1.2.0"));
    assert_eq!(store.present("news-a", "1.0.0", at + PRESENT_MS + 1).await.unwrap(), [], "not seen for long");
    assert_eq!(store.present("news-b", "1.2.0", at + PRESENT_MS + 2).await.unwrap(), beside("news-a", "1.0.0"));
    store.leave("news-a").await.unwrap();
    assert_eq!(store.present("news-b", "1.2.0", at + PRESENT_MS + 3).await.unwrap(), []);
    store.leave("news-b").await.unwrap();
}

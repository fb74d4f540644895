//! The page of the document: served whole, from here alone, and allowed to do no more than it has to.

use crate::rig::Rig;
use http::Method;

#[tokio::test]
async fn the_page_is_served_with_a_narrow_policy_and_fetches_nothing_from_elsewhere() {
    let rig = Rig::start().await;
    for (path, kind) in
        [("/straas/docs", "text/html"), ("/straas/docs.css", "text/css"), ("/straas/docs.js", "text/javascript")]
    {
        let answer = rig.raw(Method::GET, path, &[], vec![]).await;
        assert_eq!((answer.status, answer.header("x-content-type-options")), (200, "nosniff"), "{path}");
        assert!(answer.header("content-type").starts_with(kind), "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let text = answer.text();
        assert!(!text.contains("://"), "{path} names another place");
        // texts become text: nothing is parsed as markup or run
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "style="]
        {
            assert!(!text.contains(way), "{path} uses {way}");
        }
    }
}

//! What all lists have in common: which page of them, whose things, and how a page is cut.
//!
//! `marker` is the id of the last item that the reader has. A list is asked for one item more than
//! a page has, to see whether there is a next one.

use super::auth::Caller;
use super::problem::ApiError;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use straas_schemas::view::Page;
use straas_store::PageRequest;

/// Items of a page, where nothing else is asked for.
const ITEMS: u32 = 100;
/// Most items of one answer: each is planned for it.
const ITEMS_MAX: u32 = 500;

/// Longest marker: a topology's id and the place of a node in it.
const MARKER_MAX: usize = 300;

/// Query of a list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Most items of the answer; 100 if absent.
    #[serde(default, deserialize_with = "limit")]
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
    /// The `next` of the page before.
    #[serde(default, deserialize_with = "marker")]
    #[schemars(length(min = 1, max = 300))]
    pub marker: Option<String>,
}

impl ListQuery {
    /// The page it asks for, and one more to see whether there is a next.
    pub fn page(&self) -> PageRequest {
        page(self.limit, self.marker.as_ref())
    }
}

/// What the queries of lists of tenants' things have in common; flattened into them.
#[derive(Deserialize, JsonSchema)]
pub struct Listed {
    /// Most items of the answer; 100 if absent.
    #[serde(default, deserialize_with = "limit")]
    #[schemars(range(min = 1, max = 500))]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[serde(default, deserialize_with = "marker")]
    #[schemars(length(min = 1, max = 300))]
    marker: Option<String>,
    /// Everybody's, for who may see them.
    #[serde(default, deserialize_with = "all_tenants")]
    all_tenants: bool,
}

impl Listed {
    /// The page it asks for, and one more to see whether there is a next.
    pub fn page(&self) -> PageRequest {
        page(self.limit, self.marker.as_ref())
    }

    /// The tenant whose things are listed; none for everybody's.
    ///
    /// # Errors
    /// 403 if everybody's are not the caller's to see.
    pub fn tenant(&self, caller: &Caller) -> Result<Option<String>, ApiError> {
        Ok(caller.listed(self.all_tenants)?.map(str::to_owned))
    }
}

fn page(limit: Option<u32>, marker: Option<&String>) -> PageRequest {
    PageRequest { after: marker.cloned(), limit: limit.unwrap_or(ITEMS) + 1 }
}

// a flattened query is read from text, as which each value comes

fn limit<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    let text = Cow::<str>::deserialize(value)?;
    let number = text.parse().ok().filter(|number| (1..=ITEMS_MAX).contains(number));
    number.map(Some).ok_or_else(|| D::Error::custom(format!("limit must be a number from 1 to {ITEMS_MAX}")))
}

fn marker<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(value)?;
    if (1..=MARKER_MAX).contains(&text.chars().count()) {
        return Ok(Some(text));
    }
    Err(D::Error::custom("marker is the `next` of an earlier answer"))
}

fn all_tenants<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    let text = Cow::<str>::deserialize(value)?;
    text.parse().map_err(|_| D::Error::custom("all_tenants must be true or false"))
}

/// Most items that are looked at for one answer, where each has to be planned to know whether it is wanted.
const LOOKED_AT_MAX: usize = 1000;

/// A page of what is only known when it is looked at: it is full, or there is nothing more, or so many were
/// looked at that the next page goes on behind them.
pub struct Sieve<T> {
    page: PageRequest,
    kept: Vec<(String, T)>,
    looked_at: usize,
    over: bool,
}

impl<T> Sieve<T> {
    /// For a page that asks for one more.
    pub fn new(page: PageRequest) -> Self {
        Self { page, kept: Vec::new(), looked_at: 0, over: false }
    }

    /// What to read next; none if the page is done.
    pub fn wants(&self) -> Option<PageRequest> {
        (!self.over && !self.is_full()).then(|| self.page.clone())
    }

    fn is_full(&self) -> bool {
        self.kept.len() >= self.page.limit as usize || self.looked_at >= LOOKED_AT_MAX
    }

    /// Takes note of how many were read.
    pub fn read(&mut self, count: usize) {
        self.is_over(count < self.page.limit as usize);
    }

    /// Takes note of whether nothing is left to read.
    pub fn is_over(&mut self, over: bool) {
        self.over = over;
    }

    /// Puts one that was looked at in, if it is wanted; `false` if no more is.
    pub fn put(&mut self, marker: String, item: Option<T>) -> bool {
        self.looked_at += 1;
        self.kept.extend(item.map(|item| (marker.clone(), item)));
        self.page.after = Some(marker);
        let full = self.is_full();
        self.over &= !full;
        !full
    }

    /// The page.
    pub fn page(mut self) -> Page<T> {
        let most = self.page.limit as usize - 1;
        let next = if self.kept.len() > most {
            self.kept.truncate(most);
            self.kept.last().map(|(marker, _)| marker.clone())
        } else {
            self.page.after.filter(|_| !self.over)
        };
        Page { items: self.kept.into_iter().map(|(_, item)| item).collect(), next }
    }
}

/// Cuts the one more off; the id of the last one left marks the next page.
pub fn cut<T>(records: &mut Vec<T>, page: &PageRequest, id: impl Fn(&T) -> String) -> Option<String> {
    let more = records.len() >= page.limit as usize;
    records.truncate(page.limit as usize - 1);
    records.last().filter(|_| more).map(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Jobs {
        #[serde(flatten)]
        listed: Listed,
        #[serde(default)]
        open: bool,
    }

    #[test]
    fn queries_are_read_as_they_say_and_not_else() {
        let read = |text: &str| {
            let uri = format!("/list?{text}").parse().expect("a path");
            let read = axum::extract::Query::<Jobs>::try_from_uri(&uri);
            read.map(|query| query.0).map_err(|error| error.body_text())
        };
        let good = read("limit=7&marker=m&open=true&all_tenants=true").expect("read");
        assert_eq!((good.listed.limit, good.listed.all_tenants, good.open), (Some(7), true, true));
        assert_eq!(good.listed.page(), PageRequest { after: Some("m".into()), limit: 8 });
        assert_eq!(read("").expect("read").listed.page(), PageRequest { after: None, limit: 101 });
        for (text, names) in [
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=x", "limit"),
            ("limit=1&limit=2", "limit"),
            ("marker=", "marker"),
            ("all_tenants=maybe", "all_tenants"),
            ("open=perhaps", "open"),
            ("color=red", "color"),
        ] {
            let error = read(text).err().unwrap_or_else(|| panic!("{text} is read"));
            assert!(error.contains(names), "{text}: {error}");
        }
    }

    /// The pages of the even ones of `count` numbers.
    fn even(count: usize, limit: u32) -> Vec<Vec<usize>> {
        let (mut pages, mut marker) = (Vec::new(), None);
        loop {
            let mut sieve = Sieve::new(page(Some(limit), marker.as_ref()));
            while let Some(wanted) = sieve.wants() {
                let from = wanted.after.map_or(0, |after| after.parse::<usize>().expect("a number") + 1);
                let found: Vec<usize> = (from..count).take(wanted.limit as usize).collect();
                sieve.read(found.len());
                for number in found {
                    if !sieve.put(number.to_string(), (number % 2 == 0).then_some(number)) {
                        break;
                    }
                }
            }
            let Page { items, next } = sieve.page();
            pages.push(items);
            match next {
                Some(next) => marker = Some(next),
                None => return pages,
            }
        }
    }

    #[test]
    fn what_is_sifted_comes_in_full_pages_and_whole() {
        assert_eq!(even(7, 2), [vec![0, 2], vec![4, 6]]);
        assert_eq!(even(8, 3), [vec![0, 2, 4], vec![6]]);
        assert_eq!(even(0, 3), [Vec::<usize>::new()]);
        assert_eq!(even(1, 1), [vec![0]]);
        // so many are looked at in one answer: the page is not full, and goes on
        let many = even(4 * LOOKED_AT_MAX, 500);
        assert!(many.iter().all(|page| page.len() <= 500), "{:?}", many.iter().map(Vec::len).collect::<Vec<_>>());
        assert_eq!(many.concat(), (0..4 * LOOKED_AT_MAX).step_by(2).collect::<Vec<_>>());
    }

    #[test]
    fn a_page_is_cut_where_it_is_full() {
        let page = PageRequest { after: None, limit: 3 };
        for (found, kept, next) in [(vec![1, 2, 3], 2, Some("2")), (vec![1, 2], 2, None), (vec![], 0, None)] {
            let mut found: Vec<i32> = found;
            assert_eq!(cut(&mut found, &page, i32::to_string).as_deref(), next);
            assert_eq!(found.len(), kept);
        }
    }
}

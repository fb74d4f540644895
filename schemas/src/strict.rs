//! JSON read so that a key given twice is a fault and not a silent loss of the first value.

use crate::Fault;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Reads one JSON document; the faults are the keys that were given twice.
///
/// # Errors
/// It is not JSON, or nested deeper than serde_json's limit of 128.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<Fault>), serde_json::Error> {
    let (mut at, mut twice) = (Vec::new(), Vec::new());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Reader { at: &mut at, twice: &mut twice }.deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, twice))
}

struct Reader<'a> {
    /// Where in the document this is.
    at: &'a mut Vec<String>,
    twice: &'a mut Vec<Fault>,
}

impl Reader<'_> {
    fn inside(&mut self, step: String) -> Reader<'_> {
        self.at.push(step);
        Reader { at: self.at, twice: self.twice }
    }

    fn pointer(&self) -> String {
        self.at.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect()
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = seq.next_element_seed(self.inside(out.len().to_string()))? {
            self.at.pop();
            out.push(value);
        }
        self.at.pop();
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.inside(key.clone()))?;
            if out.insert(key, value).is_some() {
                self.twice.push(Fault::at(self.pointer(), "this key is given twice"));
            }
            self.at.pop();
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_serde_json_reads_and_points_at_what_is_there_twice() {
        let text = br#" {"a":[1,-2,3.5,null,true,"x",{"b/c":1}],"d":{}} "#;
        let (value, twice) = parse(text).expect("json");
        assert_eq!((value, twice), (serde_json::from_slice(text).expect("json"), vec![]));
        let (_, twice) = parse(br#"{"a":[0,{"b/c":1,"x":2,"b/c":3}],"a":1}"#).expect("json");
        let at: Vec<_> = twice.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(at, ["/a/1/b~1c", "/a"]);
        for bad in [&b"{"[..], b"", b"{} {}", b"nope", b"{\"a\":1,}", b"\xff"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }
}

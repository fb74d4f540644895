//! Configuration files of the config repo: JSON in the shape of an ini file (2017 design, 4.2.2.1).
//!
//! `default.json` carries values and their meaning; `user.json` carries the keys that a tenant may
//! set. The effective configuration is the first overridden by the second, key by key.

use crate::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most bytes of one configuration file.
pub const CONFIG_FILE_BYTES_MAX: usize = 256 * 1024;

/// What the text of a value begins with that is sealed; no other value may begin so.
pub const SEALED: &str = "straas-sealed:1:";

/// Whether a value is sealed: it stands for a secret that only the node that needs it gets to see.
#[must_use]
pub fn is_sealed(value: &str) -> bool {
    value.starts_with(SEALED)
}

/// An ini file as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Always `ini`.
    #[serde(rename = "type")]
    pub kind: ConfigKind,
    /// The sections.
    pub content: Vec<Section>,
}

impl ConfigFile {
    /// Every option with where it stands, in the order of the file.
    pub fn options(&self) -> impl Iterator<Item = Placed<'_>> {
        self.content.iter().enumerate().flat_map(|(in_file, section)| {
            section.options.iter().enumerate().map(move |(in_section, option)| Placed {
                name: (section.section.as_str(), option.key.as_str()),
                option,
                place: (in_file, in_section),
            })
        })
    }
}

/// An option and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Its section and its key.
    pub name: (&'a str, &'a str),
    /// The option.
    pub option: &'a ConfigOption,
    place: (usize, usize),
}

impl Placed<'_> {
    /// Its JSON pointer.
    #[must_use]
    pub fn pointer(&self) -> String {
        format!("/content/{}/options/{}", self.place.0, self.place.1)
    }
}

/// The one kind of configuration file there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConfigKind {
    /// Sections of options.
    Ini,
}

/// A section: the name of a Puppet class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Its name.
    pub section: String,
    /// What it is for.
    #[serde(default)]
    pub doc: String,
    /// Its options.
    pub options: Vec<ConfigOption>,
}

/// An option: a parameter of the Puppet class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigOption {
    /// Its name.
    pub key: String,
    /// Its value, as text whatever its type.
    pub value: String,
    /// How to read the text.
    #[serde(rename = "type")]
    pub kind: ValueKind,
    /// Only StraaS itself may set it.
    #[serde(default)]
    pub exclusive: bool,
    /// What it does.
    #[serde(default)]
    pub doc: String,
    /// Smallest value of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest value of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The values a text may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// Never shown in clear, and sealed at rest; a text of any content.
    #[serde(default)]
    pub secret: bool,
}

/// Type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    /// Text as it is.
    String,
    /// A whole number that fits 64 bits.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A decimal number.
    Float,
}

/// The effective configuration: section → key → typed value.
pub type Effective = BTreeMap<String, BTreeMap<String, serde_json::Value>>;

impl ConfigOption {
    /// The value in its type, or what is wrong with it.
    ///
    /// # Errors
    /// The text and what it should have been.
    pub fn typed(&self) -> Result<serde_json::Value, String> {
        if self.secret && is_sealed(&self.value) && self.kind == ValueKind::String {
            return Ok(self.value.clone().into());
        }
        let wrong = |what: String| {
            if self.secret { format!("is not {what}") } else { format!("{:?} is not {what}", self.value) }
        };
        if let Some(values) = &self.values
            && !values.contains(&self.value)
        {
            return Err(wrong(format!("one of {}", values.join(", "))));
        }
        match self.kind {
            ValueKind::String => Ok(self.value.clone().into()),
            ValueKind::Boolean => self.value.parse::<bool>().map(Into::into).map_err(|_| wrong("true or false".into())),
            ValueKind::Integer => {
                let number = self.value.parse::<i64>().map_err(|_| wrong("a whole number".into()))?;
                #[allow(clippy::cast_precision_loss)] // limits are far below 2^53
                self.within(number as f64).map_err(wrong)?;
                Ok(number.into())
            }
            ValueKind::Float => {
                let number = self.value.parse::<f64>().map_err(|_| wrong("a number".into()))?;
                self.within(number).map_err(wrong)?;
                serde_json::Number::from_f64(number).map(Into::into).ok_or_else(|| wrong("a finite number".into()))
            }
        }
    }

    fn within(&self, number: f64) -> Result<(), String> {
        match (self.min, self.max) {
            (Some(min), _) if number < min => Err(format!("at least {min}")),
            (_, Some(max)) if number > max => Err(format!("at most {max}")),
            _ => Ok(()),
        }
    }
}

/// Merges files, later ones winning key by key, into typed values.
///
/// # Errors
/// Every value that is not of its type, with a pointer into the file it stands in.
pub fn effective(files: &[&ConfigFile]) -> Result<Effective, Vec<Fault>> {
    let mut merged = Effective::new();
    let mut faults = Vec::new();
    // limits stand in the first file that has the key and hold for every later one
    let mut limits: BTreeMap<(&str, &str), &ConfigOption> = BTreeMap::new();
    for file in files {
        for (s, section) in file.content.iter().enumerate() {
            let target = merged.entry(section.section.clone()).or_default();
            for (o, option) in section.options.iter().enumerate() {
                let first = *limits.entry((&section.section, &option.key)).or_insert(option);
                let bounded = ConfigOption { value: option.value.clone(), ..first.clone() };
                match bounded.typed() {
                    Ok(value) => {
                        target.insert(option.key.clone(), value);
                    }
                    Err(message) => faults.push(Fault::at(format!("/content/{s}/options/{o}/value"), message)),
                }
            }
        }
    }
    if faults.is_empty() { Ok(merged) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> ConfigFile {
        serde_json::from_str(json).expect("a config file")
    }

    #[test]
    fn the_later_file_wins_key_by_key_and_types_are_checked() {
        let default = file(
            r#"{"type":"ini","content":[{"section":"zookeeper","options":[
            {"key":"tick","value":"2000","type":"integer"},{"key":"dir","value":"/x","type":"string"}]}]}"#,
        );
        let user = file(
            r#"{"type":"ini","content":[{"section":"zookeeper","options":[{"key":"tick","value":"500","type":"integer"}]}]}"#,
        );
        let merged = effective(&[&default, &user]).expect("valid");
        assert_eq!(serde_json::to_string(&merged).expect("json"), r#"{"zookeeper":{"dir":"/x","tick":500}}"#);
        let bad = file(
            r#"{"type":"ini","content":[{"section":"z","options":[{"key":"t","value":"two","type":"integer"}]}]}"#,
        );
        assert_eq!(effective(&[&bad]).expect_err("invalid")[0].pointer, "/content/0/options/0/value");
    }
}

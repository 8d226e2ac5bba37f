//! The size of a measurement: `key=value` words, the same for every peer.

use std::collections::BTreeMap;
use std::fmt;

/// Named sizes. All are whole numbers; times are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, u64>);

impl Params {
    /// Reads `key=value` words.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut map = BTreeMap::new();
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is not key=value"))?;
            let value = value.replace('_', "").parse().map_err(|e| format!("`{word}`: {e}"))?;
            map.insert(key.to_owned(), value);
        }
        Ok(Params(map))
    }

    /// The value of `key`.
    ///
    /// # Panics
    ///
    /// If it is missing: a case and its work disagree.
    pub fn get(&self, key: &str) -> u64 {
        *self.0.get(key).unwrap_or_else(|| panic!("this work needs `{key}=…`; got: {self}"))
    }

    /// The value of `key` as a count.
    pub fn count(&self, key: &str) -> usize {
        self.get(key) as usize
    }

    /// Whether more than one worker is asked for.
    pub fn several_workers(&self) -> bool {
        self.0.get("workers").is_some_and(|&workers| workers > 1)
    }

    /// Replaces the value of `key`.
    pub fn set(&mut self, key: &str, value: u64) {
        self.0.insert(key.to_owned(), value);
    }

    /// The words again.
    pub fn words(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(key, value)| format!("{key}={value}"))
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().collect::<Vec<_>>().join(" "))
    }
}

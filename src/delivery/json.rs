//! What a JSON document says, whatever its form.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// Read by hand: to `serde_json::Value` some names of members are a number's, and of two members of one name the first is none.
#[derive(Default)]
pub struct Said {
    /// Every string, but for names.
    pub strings: Vec<String>,
    /// The first member that its object names twice: of the two, whoever wrote them may mean either.
    pub twice: Option<String>,
}

impl Said {
    fn and(&mut self, within: Self) {
        self.strings.extend(within.strings);
        self.twice = self.twice.take().or(within.twice);
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let (mut names, mut said) = (HashSet::new(), Said::default());
        while let Some((name, within)) = map.next_entry::<String, Said>()? {
            said.and(within);
            if let Some(name) = names.replace(name) {
                said.twice.get_or_insert(name);
            }
        }
        Ok(said)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        while let Some(within) = list.next_element()? {
            said.and(within);
        }
        Ok(said)
    }

    fn visit_str<E>(self, text: &str) -> Result<Said, E> {
        Ok(Said { strings: vec![text.to_owned()], twice: None })
    }

    fn visit_bool<E>(self, _: bool) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_unit<E>(self) -> Result<Said, E> {
        Ok(Said::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_of_a_body_is_found_whatever_its_member_is_called() {
        let json = br#"{"a":"x","b":["y",1,-2,3.5,null,true],"$serde_json::private::Number":"z","c":{"d":"\u0061"}}"#;
        let mut strings = serde_json::from_slice::<Said>(json).unwrap().strings;
        strings.retain(|text| text != "3.5");
        assert_eq!(strings, ["x", "y", "z", "a"]);
        assert!(serde_json::from_slice::<Said>(b"{\"a\":").is_err());
    }

    #[test]
    fn a_member_that_is_named_twice_is_found_wherever_it_stands() {
        let twice = |json: &str| serde_json::from_str::<Said>(json).unwrap().twice;
        for good in
            [r#"{"a":1,"b":[{"a":-1.5e300},null,true,"a"],"c":{"a":{}}}"#, "[]", "null", "12345678901234567890123"]
        {
            assert_eq!(twice(good), None, "{good}");
        }
        for (bad, name) in [
            (r#"{"url":"x","url":"y"}"#, "url"),
            (r#"{"draft":{"headers":{"X-A":"1","X\u002dA":"2"}}}"#, "X-A"),
            (r#"[1,{"a":{"b":null,"b":1}}]"#, "b"),
        ] {
            assert_eq!(twice(bad).as_deref(), Some(name), "{bad}");
        }
    }
}

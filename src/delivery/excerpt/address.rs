//! What a URL says.

use percent_encoding::percent_decode_str;
use url::Url;

/// The URL and its parts, as they are spelled and as receivers decode them.
pub(super) fn parts(url: &Url) -> Vec<String> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
        (decoded != text).then_some(decoded)
    };
    let path = url.path_segments().into_iter().flatten().chain([url.path()]);
    let path = path.flat_map(|part| [Some(part.to_owned()), decoded(part)]).flatten();
    let query = url.query_pairs().flat_map(|(name, value)| [name.into_owned(), value.into_owned()]);
    path.chain(query).chain([url.as_str().to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_known_as_it_is_decoded_too() {
        let url = Url::parse("https://example.com/in/s3cr%2Bt%2Ftok%3D/my%20path?key=a%26b").unwrap();
        let parts = parts(&url);
        for part in ["s3cr%2Bt%2Ftok%3D", "s3cr+t/tok=", "my path", "/in/s3cr+t/tok=/my path", "a&b", "key"] {
            assert!(parts.iter().any(|known| known == part), "{part}: {parts:?}");
        }
    }
}

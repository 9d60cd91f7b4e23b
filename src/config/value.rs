//! Single values: from the bytes behind a `=` to something typed.

use std::io;

use super::Address;
use super::diagnostics::{Bad, Diagnostics, quoted};
use super::ini::Text;
use super::schema::{Choice, DURATION_MAX_MS};
use super::suggest;
use crate::pattern::PatternError;
use crate::quote::plain;
use crate::types::Millis;

/// Words for yes and no, in any case.
const FLAGS: [(&str, bool); 8] = [
    ("yes", true),
    ("no", false),
    ("true", true),
    ("false", false),
    ("on", true),
    ("off", false),
    ("1", true),
    ("0", false),
];

/// Units of durations, in milliseconds. No unit means seconds.
const UNITS: [(&[u8], u64); 6] =
    [(b"ms", 1), (b"s", 1000), (b"", 1000), (b"m", 60_000), (b"h", 3_600_000), (b"d", 86_400_000)];

/// Turns a bad item into an error.
pub fn report<T>(item: &Text, result: Result<T, Bad>, out: &mut Diagnostics) -> Option<T> {
    result.map_err(|bad| out.error(item.span.part(bad.range), bad.message)).ok()
}

/// yes or no.
pub fn flag(text: &[u8]) -> Result<bool, Bad> {
    let found = FLAGS.iter().find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let hint = suggest::hint(text, FLAGS.map(|(word, _)| word));
        Bad::whole(text, format!("{} is neither yes nor no{hint}", quoted(text)))
    })
}

/// Seconds with decimals, or with a unit. Less than a millisecond is rounded up, so that a short
/// duration never becomes none.
pub fn duration(text: &[u8]) -> Result<Millis, Bad> {
    let bad = |message: &str| Bad::whole(text, format!("{} {message}", quoted(text)));
    if text.starts_with(b"-") {
        return Err(bad("is a negative duration"));
    }
    let Some(total_ms) = milliseconds(text) else {
        let hint = meant_duration(text).map(|meant| format!(", did you mean {meant}?")).unwrap_or_default();
        return Err(bad(&format!("is not a duration: a number of seconds, or with ms, s, m, h or d{hint}")));
    };
    match Millis::try_from(total_ms) {
        Ok(total_ms) if total_ms <= DURATION_MAX_MS => Ok(total_ms),
        _ => Err(bad("is longer than ten years")),
    }
}

/// The value of a number with a unit directly behind it.
fn milliseconds(text: &[u8]) -> Option<u128> {
    let unit_at = text.iter().position(u8::is_ascii_alphabetic).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let unit_ms = u128::from(*unit_ms);
    let (whole, decimals) = split_number(number);
    let (whole, decimals) = (digits(whole)?, digits(decimals)?);
    let scale = 10_u128.pow(decimals.1);
    Some(whole.0.saturating_mul(unit_ms).saturating_add((decimals.0 * unit_ms).div_ceil(scale)))
}

/// A number and a unit, as other programs take them.
fn meant_duration(text: &[u8]) -> Option<String> {
    let text = str::from_utf8(text).ok()?;
    let at = text.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (number, unit) = (&text[..at], text[at..].trim().to_ascii_lowercase());
    let unit = match unit.as_str() {
        "ms" | "msec" | "msecs" | "millis" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => return None,
    };
    let meant = format!("{number}{unit}");
    milliseconds(meant.as_bytes()).map(|_| meant)
}

/// What stands before and behind the decimal point; `0` behind it when there is none.
fn split_number(number: &[u8]) -> (&[u8], &[u8]) {
    match number.iter().position(|&byte| byte == b'.') {
        Some(point) => (&number[..point], &number[point + 1..]),
        None => (number, b"0"),
    }
}

/// The value of some digits, and how many they are; `None` unless there are 1 to 20 digits, which
/// is more than any duration needs and never overflows.
fn digits(text: &[u8]) -> Option<(u128, u32)> {
    let count = u32::try_from(text.len()).ok().filter(|count| (1..=20).contains(count))?;
    let value = text
        .iter()
        .try_fold(0_u128, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u128::from(byte - b'0')));
    Some((value?, count))
}

/// A decimal number between two bounds.
pub fn number(text: &[u8], min: i64, max: i64) -> Result<i64, Bad> {
    let magnitude = text.strip_prefix(b"-").unwrap_or(text);
    if magnitude.is_empty() || !magnitude.iter().all(u8::is_ascii_digit) {
        return Err(Bad::whole(text, format!("{} is not a whole number", quoted(text))));
    }
    let parsed = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.filter(|value| (min..=max).contains(value)).ok_or_else(|| {
        Bad::whole(text, format!("{} is out of range: it must be between {min} and {max}", quoted(text)))
    })
}

/// An octal number up to a bound, such as 0644 or 644.
pub fn mode(text: &[u8], max: u32) -> Result<u32, Bad> {
    let octal = !text.is_empty() && text.iter().all(|byte| (b'0'..=b'7').contains(byte));
    let parsed = str::from_utf8(text).ok().filter(|_| octal);
    let parsed = parsed.and_then(|text| u32::from_str_radix(text, 8).ok());
    parsed
        .filter(|mode| *mode <= max)
        .ok_or_else(|| Bad::whole(text, format!("{} is not an octal number up to {max:04o}", quoted(text))))
}

/// One of some words, and one whose feature exists.
pub fn choice(text: &[u8], choices: &[Choice]) -> Result<&'static str, Bad> {
    match choices.iter().find(|choice| choice.word.as_bytes() == text) {
        Some(Choice { word, built: true }) => Ok(word),
        Some(Choice { word, built: false }) => {
            Err(Bad::whole(text, format!("\"{word}\" is not supported yet")))
        }
        None => {
            let words: Vec<_> = choices.iter().map(|choice| choice.word).collect();
            let hint = suggest::hint(text, words.iter().copied());
            let list = words.join(", ");
            Err(Bad::whole(text, format!("{} is none of: {list}{hint}", quoted(text))))
        }
    }
}

/// A name as sections and logs have it.
pub fn name(text: &[u8]) -> Result<&str, Bad> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    let valid = str::from_utf8(text).ok().filter(|_| !text.is_empty() && text.iter().all(allowed));
    valid.ok_or_else(|| {
        let at = text.iter().position(|byte| !allowed(byte)).unwrap_or(0);
        Bad {
            message: format!("{} is not a name: letters, digits, _ . - only", quoted(text)),
            range: at..at + 1,
        }
    })
}

/// What a database has for the name of a user or group.
pub fn look_up<T>(
    text: &[u8],
    what: &str,
    name: &[u8],
    find: impl Fn(&str) -> io::Result<Option<T>>,
) -> Result<T, Bad> {
    let found = str::from_utf8(name).map_or(Ok(None), find);
    let name = quoted(name);
    match found {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(Bad::whole(text, format!("there is no {what} {name} on this machine"))),
        Err(error) => Err(Bad::whole(text, format!("cannot look up {what} {name}: {error}"))),
    }
}

/// `NAME=VALUE` for the environment (POSIX.1-2017, Base Definitions, 8.1).
pub fn assignment(text: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Bad> {
    let valid = |name: &[u8]| {
        !name.first().is_none_or(u8::is_ascii_digit)
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    match text.iter().position(|&byte| byte == b'=').map(|at| (&text[..at], &text[at + 1..])) {
        Some((name, value)) if valid(name) => Ok((name.to_vec(), value.to_vec())),
        _ => Err(Bad::whole(text, format!("{} is not NAME=VALUE", quoted(text)))),
    }
}

/// A path from the root.
pub fn absolute_path(text: &[u8]) -> Result<Vec<u8>, Bad> {
    if text.starts_with(b"/") {
        return Ok(text.to_vec());
    }
    let hint = match text {
        [quote @ (b'"' | b'\''), inner @ .., last] if quote == last => {
            format!("quotes are part of a value, write {}", plain(inner))
        }
        [b'~', rest @ ..] => {
            format!("~ is not replaced, write the home directory, such as /home/NAME{}", plain(rest))
        }
        _ => "it must start with /".to_owned(),
    };
    Err(Bad::whole(text, format!("{} is not an absolute path: {hint}", quoted(text))))
}

/// What is probably wrong with a path that is not there.
pub fn odd_path(text: &[u8]) -> Option<&'static str> {
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    if has(b" #") || has(b" ;") {
        return Some(
            "this path is not there: a comment is a line of its own, and here it is part of the path",
        );
    }
    let why = "this path is not there: a comma does not separate paths, write each on a line of its own";
    (has(b", ") || has(b",/")).then_some(why)
}

/// The longest path that a socket can have (`sun_path`, `unix(7)`).
const SOCKET_PATH_LEN_MAX: usize = 107;

/// A path from the root that a socket can have.
pub fn socket_path(text: &[u8]) -> Result<Vec<u8>, Bad> {
    if text.len() > SOCKET_PATH_LEN_MAX {
        let message =
            format!("the path of a socket has at most {SOCKET_PATH_LEN_MAX} bytes, not {}", text.len());
        return Err(Bad::whole(text, message));
    }
    absolute_path(text)
}

/// Where syslog listens: a path, `udp:HOST:PORT`, `tcp:HOST:PORT`. An IPv6 address stands between
/// brackets.
pub fn address(text: &[u8]) -> Result<Address, Bad> {
    let net = [(b"udp:", Address::Udp as fn(String, u16) -> Address), (b"tcp:", Address::Tcp)];
    for (prefix, make) in net {
        let Some(rest) = text.strip_prefix(prefix) else { continue };
        let bad = || Bad {
            message: format!("{} is not HOST:PORT; an IPv6 address stands between brackets", quoted(rest)),
            range: prefix.len()..text.len(),
        };
        let (host, port) =
            str::from_utf8(rest).ok().and_then(|rest| rest.rsplit_once(':')).ok_or_else(bad)?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = |host: &str| !host.is_empty() && !host.contains([' ', '[', ']', '/']);
        let host = match inner {
            Some(inner) if inner.contains(':') && valid(inner) => inner,
            None if !host.contains(':') && valid(host) => host,
            _ => return Err(bad()),
        };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
        return Ok(make(host.to_owned(), port));
    }
    if text.starts_with(b"/") {
        return socket_path(text).map(Address::Path);
    }
    Err(Bad::whole(text, format!("{} is none of: /PATH, udp:HOST:PORT, tcp:HOST:PORT", quoted(text))))
}

/// Why a path cannot be watched or included, in words.
pub fn pattern_error(text: &[u8], error: PatternError) -> Bad {
    let why = match error {
        PatternError::Relative => return absolute_path(text).err().unwrap_or_else(|| Bad::whole(text, "")),
        PatternError::Dots => "holds a . or .. component: write the path out",
        PatternError::TooLong => "has a component of more than 255 bytes, which Linux does not allow",
        PatternError::Nul => "holds a NUL byte",
        PatternError::DoubleStar => {
            "holds **, and a wildcard matches within one name: write the directory above it, and rec = yes"
        }
    };
    Bad::whole(text, format!("{} {why}", quoted(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message<T: std::fmt::Debug>(result: Result<T, Bad>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn flags() {
        for (text, expected) in [("yes", true), ("No", false), ("TRUE", true), ("off", false), ("1", true)] {
            assert_eq!(flag(text.as_bytes()), Ok(expected));
        }
        assert_eq!(message(flag(b"maybe")), "\"maybe\" is neither yes nor no");
        assert_eq!(message(flag(b"flase")), "\"flase\" is neither yes nor no, did you mean false?");
    }

    #[test]
    fn durations() {
        let cases = [
            ("0", 0),
            ("10", 10_000),
            ("1.5", 1500),
            ("0.0001", 1),
            ("0.0", 0),
            ("250ms", 250),
            ("1.5h", 5_400_000),
            ("2m", 120_000),
            ("3s", 3000),
            ("3650d", DURATION_MAX_MS),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text.as_bytes()), Ok(expected), "{text}");
        }
        for text in ["", ".", "1.", ".5", "s", "1w", "1e3", "+1", "1.5.2", "soon", "1,5"] {
            let expected = "is not a duration: a number of seconds, or with ms, s, m, h or d";
            assert_eq!(message(duration(text.as_bytes())), format!("\"{text}\" {expected}"));
        }
        for (text, meant) in [
            ("1 s", "1s"),
            ("1S", "1s"),
            ("5 sec", "5s"),
            ("1.5 hours", "1.5h"),
            ("2 Days", "2d"),
            ("10min", "10m"),
        ] {
            assert!(
                message(duration(text.as_bytes())).ends_with(&format!(" or d, did you mean {meant}?")),
                "{text}"
            );
        }
        for text in ["1.5.2 s", "5 x", "s"] {
            assert!(!message(duration(text.as_bytes())).contains("did you mean"), "{text}");
        }
        assert_eq!(message(duration(b"-1")), "\"-1\" is a negative duration");
        assert_eq!(message(duration(b"3651d")), "\"3651d\" is longer than ten years");
        let digits = "99999999999999999999";
        assert_eq!(message(duration(digits.as_bytes())), format!("\"{digits}\" is longer than ten years"));
    }

    #[test]
    fn numbers() {
        assert_eq!(number(b"-20", -20, 19), Ok(-20));
        assert_eq!(number(b"007", 0, 9), Ok(7));
        for text in ["", "-", "x", "1.0", "+1", "1 "] {
            assert_eq!(message(number(text.as_bytes(), 0, 9)), format!("\"{text}\" is not a whole number"));
        }
        for text in ["-1", "10", "99999999999999999999999"] {
            let expected = format!("\"{text}\" is out of range: it must be between 0 and 9");
            assert_eq!(message(number(text.as_bytes(), 0, 9)), expected);
        }
    }

    #[test]
    fn modes() {
        assert_eq!(mode(b"0644", 0o7777), Ok(0o644));
        assert_eq!(mode(b"22", 0o777), Ok(0o22));
        for text in ["", "8", "0o22", "1000", "-1", "77777777777777"] {
            let expected = format!("\"{text}\" is not an octal number up to 0777");
            assert_eq!(message(mode(text.as_bytes(), 0o777)), expected);
        }
    }

    #[test]
    fn choices() {
        let choices = [Choice { word: "rerun", built: true }, Choice { word: "queue", built: false }];
        assert_eq!(choice(b"rerun", &choices), Ok("rerun"));
        assert_eq!(message(choice(b"queue", &choices)), "\"queue\" is not supported yet");
        assert_eq!(message(choice(b"x", &choices)), "\"x\" is none of: rerun, queue");
        assert_eq!(
            message(choice(b"re-run", &choices)),
            "\"re-run\" is none of: rerun, queue, did you mean rerun?"
        );
    }

    #[test]
    fn names() {
        assert_eq!(name(b"a_B.c-9"), Ok("a_B.c-9"));
        assert_eq!(name(b"a/b").unwrap_err().range, 1..2);
        assert_eq!(message(name(b"a\xff")), "\"a\\xff\" is not a name: letters, digits, _ . - only");
        assert!(name(b"").is_err());
    }

    #[test]
    fn assignments() {
        assert_eq!(assignment(b"A_1=b = c"), Ok((b"A_1".to_vec(), b"b = c".to_vec())));
        assert_eq!(assignment(b"A="), Ok((b"A".to_vec(), Vec::new())));
        for text in ["A", "=b", "1A=b", "A B=c", ""] {
            assert_eq!(message(assignment(text.as_bytes())), format!("\"{text}\" is not NAME=VALUE"));
        }
    }

    #[test]
    fn addresses() {
        let check = |text: &str, expected| assert_eq!(address(text.as_bytes()), Ok(expected), "{text}");
        check("/dev/log", Address::Path(b"/dev/log".to_vec()));
        check("udp:log.example:514", Address::Udp("log.example".into(), 514));
        check("tcp:10.0.0.1:65535", Address::Tcp("10.0.0.1".into(), 65535));
        check("udp:[::1]:514", Address::Udp("::1".into(), 514));
        for text in
            ["udp:", "udp:a", "udp::514", "udp:a:", "tcp:a:0", "tcp:a:65536", "tcp:a:x", "udp:::1:514"]
        {
            let rest = &text[4..];
            let expected = format!("\"{rest}\" is not HOST:PORT; an IPv6 address stands between brackets");
            assert_eq!(message(address(text.as_bytes())), expected);
        }
        for text in ["udp:[a]:1", "udp:[::1:1", "udp:[]:1", "udp:a b:1", "udp:\u{e9}:x"] {
            assert!(address(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["", "dev/log", "udp", "UDP:a:1", "sctp:a:1"] {
            let expected = format!("\"{text}\" is none of: /PATH, udp:HOST:PORT, tcp:HOST:PORT");
            assert_eq!(message(address(text.as_bytes())), expected);
        }
        assert!(address(format!("/{}", "x".repeat(107)).as_bytes()).is_err());
    }

    #[test]
    fn paths() {
        assert_eq!(absolute_path(b"/a"), Ok(b"/a".to_vec()));
        assert_eq!(message(absolute_path(b"a")), "\"a\" is not an absolute path: it must start with /");
        assert_eq!(
            message(absolute_path(b"\"/a\"")),
            r#""\"/a\"" is not an absolute path: quotes are part of a value, write /a"#
        );
        assert_eq!(
            message(absolute_path(b"~/in")),
            "\"~/in\" is not an absolute path: ~ is not replaced, write the home directory, such as /home/NAME/in"
        );
        assert!(odd_path(b"/srv/in # scans").is_some_and(|why| why.contains("comment")));
        assert!(odd_path(b"/srv/a, /srv/b").is_some_and(|why| why.contains("comma")));
        assert_eq!((odd_path(b"/srv/a#b"), odd_path(b"/srv/a,b"), odd_path(b"/srv/a b")), (None, None, None));
        let longest = format!("/{}", "x".repeat(SOCKET_PATH_LEN_MAX - 1));
        assert_eq!(socket_path(longest.as_bytes()), Ok(longest.clone().into_bytes()));
        let longer = longest + "x";
        let expected = "the path of a socket has at most 107 bytes, not 108";
        assert_eq!(message(socket_path(longer.as_bytes())), expected);
        let cases = [
            (PatternError::Relative, "\"a\" is not an absolute path: it must start with /"),
            (PatternError::Dots, "\"a\" holds a . or .. component: write the path out"),
            (
                PatternError::TooLong,
                "\"a\" has a component of more than 255 bytes, which Linux does not allow",
            ),
            (PatternError::Nul, "\"a\" holds a NUL byte"),
            (
                PatternError::DoubleStar,
                "\"a\" holds **, and a wildcard matches within one name: write the directory above it, and \
                 rec = yes",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(pattern_error(b"a", error).message, expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(text: Vec<u8>) {
            let _: (_, _, _, _) = (flag(&text), duration(&text), number(&text, 0, 9), mode(&text, 0o777));
            let _: (_, _, _) = (name(&text), assignment(&text), address(&text));
        }

        #[test]
        fn any_number_is_judged(text in "[0-9]{0,30}(\\.[0-9]{0,30})?(ms|s|m|h|d)?") {
            if let Ok(total_ms) = duration(text.as_bytes()) {
                prop_assert!(total_ms <= DURATION_MAX_MS);
            }
        }
    }
}

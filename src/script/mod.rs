//! Commands that sh runs.
//!
//! The text that sh parses is the administrator's alone and the same for every task: where a
//! placeholder stands, it has the quoted expansion of an environment variable, and the values travel
//! in the environment. So no name can become code by what it holds, wherever a placeholder stands, even
//! where [`reader`] is wrong about the place: then a value is split into words, or stays a text such as
//! `${RINOTIFYD_PATH}`. What the reader decides is the form of the expansion, which depends on the
//! quotes around it, and which placeholders are refused: those whose value would not arrive, and those
//! whose value the command evaluates once more ([`evaluated`]).

pub mod evaluated;
mod reader;

use std::ffi::CString;
use std::ops::Range;

use crate::template::{Value, Values, c_string, quote};

/// A command of sh with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    code: CString,
    pieces: Vec<Piece>,
    values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<[u8]>),
    Value(Value, Form),
}

/// How a placeholder is written for sh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Outside of quotes.
    Word,
    /// Between double quotes.
    Quoted,
    /// In a here-document.
    Document,
    /// In a comment, where it does not matter, or a number in an expression.
    Bare,
}

/// What is wrong with a placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The command is refused; otherwise, this is a warning.
    pub is_error: bool,
    /// What and why, and what to do.
    pub message: String,
    /// The placeholder.
    pub range: Range<usize>,
}

impl Script {
    /// Reads a command, and says what is wrong with its placeholders.
    #[must_use]
    pub fn parse(text: &[u8]) -> (Self, Vec<Remark>) {
        let mut script = Self { code: CString::default(), pieces: Vec::new(), values: Vec::new() };
        let (mut code, mut remarks, mut copied) = (Vec::new(), Vec::new(), 0);
        for found in reader::read(text) {
            let name = String::from_utf8_lossy(&text[found.range.clone()]);
            if let Some(reason) = found.problem {
                let message = format!("{name} {reason}");
                remarks.push(Remark { is_error: true, message, range: found.range.clone() });
            } else if found.is_remote {
                let message = evaluated::remote_warning(&name);
                remarks.push(Remark { is_error: false, message, range: found.range.clone() });
            }
            let before = &text[copied..found.range.start];
            code.extend_from_slice(before);
            let quotes = if found.form == Form::Word { "\"" } else { "" };
            let expansion = format!("{quotes}${{{}}}{quotes}", found.value.variable());
            code.extend_from_slice(expansion.as_bytes());
            if !before.is_empty() {
                script.pieces.push(Piece::Text(before.into()));
            }
            script.pieces.push(Piece::Value(found.value, found.form));
            if !script.values.contains(&found.value) {
                script.values.push(found.value);
            }
            copied = found.range.end;
        }
        code.extend_from_slice(&text[copied..]);
        script.pieces.push(Piece::Text(text[copied..].into()));
        script.code = c_string(code);
        (script, remarks)
    }

    /// The program and its arguments, the same for every task.
    #[must_use]
    pub fn argv(&self) -> Vec<CString> {
        vec![c"/bin/sh".to_owned(), c"-c".to_owned(), self.code.clone()]
    }

    /// The values that must be in the environment.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The command line with its values, for people: what they could give to a shell to do the same.
    #[must_use]
    pub fn shown(&self, values: &Values<'_>) -> Vec<u8> {
        let mut out = b"/bin/sh -c ".to_vec();
        for piece in &self.pieces {
            let (value, form) = match piece {
                Piece::Text(text) => {
                    out.extend_from_slice(text);
                    continue;
                }
                Piece::Value(value, form) => (*value, *form),
            };
            let mut bytes = Vec::new();
            values.append(&mut bytes, value);
            match form {
                // There, nothing would keep it from ending the line.
                Form::Document | Form::Bare if bytes.contains(&b'\n') => {
                    out.extend_from_slice(format!("${{{}}}", value.variable()).as_bytes());
                }
                Form::Word => quote(&mut out, &bytes),
                Form::Quoted => escape(&mut out, &bytes, b"\"\\$`"),
                Form::Document => escape(&mut out, &bytes, b"\\$`"),
                Form::Bare => out.extend_from_slice(&bytes),
            }
        }
        out
    }
}

/// Appends `value` as a part of what stands between double quotes, or of a here-document.
fn escape(out: &mut Vec<u8>, value: &[u8], special: &[u8]) {
    for byte in value {
        if special.contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;
    use proptest::prelude::*;

    fn code(text: &str) -> String {
        let (script, remarks) = Script::parse(text.as_bytes());
        assert_eq!(remarks, [], "{text}");
        script.argv().pop().unwrap().into_string().unwrap()
    }

    /// `@` stands for the expansion.
    fn check(text: &str, expected: &str) {
        assert_eq!(code(text), expected.replace('@', "${RINOTIFYD_PATH}"), "{text}");
    }

    fn refuse(text: &str, reason: &str) {
        let remarks = Script::parse(text.as_bytes()).1;
        let found: Vec<_> = remarks.iter().map(|remark| (remark.is_error, &remark.message)).collect();
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].0 && found[0].1.contains(reason), "{text}: {found:?}");
        assert!(text[remarks[0].range.clone()].starts_with('{'), "{text}");
    }

    #[test]
    fn outside_of_quotes_the_expansion_brings_its_own() {
        check("a {pathname}", "a \"@\"");
        check("a x={pathname}.y'z'", "a x=\"@\".y'z'");
        check("a 'b' \"c\" {pathname}", "a 'b' \"c\" \"@\"");
        check("a \\\"{pathname} \\\\{pathname}", "a \\\"\"@\" \\\\\"@\"");
        check("a x#{pathname} $#{pathname} $${pathname}", "a x#\"@\" $#\"@\" $$\"@\"");
        check("cat <<< {pathname} >{pathname} 2>&1", "cat <<< \"@\" >\"@\" 2>&1");
        check("a ${x:-{pathname}} ${x#{pathname}}", "a ${x:-\"@\"} ${x#\"@\"}");
        check(
            "z={pathname}; case {pathname} in {pathname}) b;; esac",
            "z=\"@\"; case \"@\" in \"@\") b;; esac",
        );
    }

    #[test]
    fn between_double_quotes_it_has_none() {
        check("a \"b {pathname} c\" {pathname}", "a \"b @ c\" \"@\"");
        check("a \"it's {pathname}\" {pathname}", "a \"it's @\" \"@\"");
        check("a \"\\\"{pathname}\" {pathname}", "a \"\\\"@\" \"@\"");
        check("a \"${x:-{pathname}}\" {pathname}", "a \"${x:-@}\" \"@\"");
        check("a \"${x:-\"{pathname}\"}\" {pathname}", "a \"${x:-\"@\"}\" \"@\"");
        check("a \"${x:-\"}\"} {pathname}\"", "a \"${x:-\"}\"} @\"");
        check("a \"${x:-it's} {pathname}\"", "a \"${x:-it's} @\"");
        check("a \"$'{pathname}\"", "a \"$'@\"");
    }

    #[test]
    fn a_pattern_in_an_expansion_needs_its_own_quotes() {
        check("a \"${x#{pathname}}\" \"${x%%{pathname}} {pathname}\"", "a \"${x#\"@\"}\" \"${x%%\"@\"} @\"");
        check("a \"${x/{pathname}/b}\"", "a \"${x/\"@\"/b}\"");
    }

    #[test]
    fn a_command_in_a_command_begins_anew() {
        check("a \"$(b {pathname} \"{pathname}\") {pathname}\"", "a \"$(b \"@\" \"@\") @\"");
        check("a `b {pathname}` \"`b {pathname}` {pathname}\"", "a `b \"@\"` \"`b \"@\"` @\"");
        check("a \"`b \\\"{pathname}\\\"` {pathname}\"", "a \"`b \\\"@\\\"` @\"");
        check("a `b \\`c {pathname}\\` \"{pathname}\"`", "a `b \\`c \"@\"\\` \"@\"`");
        check(
            "a \"$(case x in x) b {pathname};; esac) {pathname}\"",
            "a \"$(case x in x) b \"@\";; esac) @\"",
        );
        check("a \"$(echo case) {pathname}\"", "a \"$(echo case) @\"");
        check("a \"$((1 + (2))) {pathname}\" {pathname}", "a \"$((1 + (2))) @\" \"@\"");
        check("a $(($(wc -c <{pathname}) + 1))", "a $(($(wc -c <\"@\") + 1))");
        check("(a; (b {pathname})) {pathname}", "(a; (b \"@\")) \"@\"");
    }

    #[test]
    fn comments_are_no_place_for_quotes() {
        check("a # it's {pathname}\nb {pathname}", "a # it's @\nb \"@\"");
        check("(a)# it's \"\nb {pathname}", "(a)# it's \"\nb \"@\"");
        check("(wc -c {pathname})#{pathname} of \"{pathname}", "(wc -c \"@\")#@ of \"@");
        check("a \"#\" {pathname} '#' {pathname}", "a \"#\" \"@\" '#' \"@\"");
    }

    #[test]
    fn here_documents_are_like_double_quotes_without_quotes() {
        check(
            "cat <<E; b {pathname}\n\"{pathname}' $(c {pathname})\nE\nd {pathname}",
            "cat <<E; b \"@\"\n\"@' $(c \"@\")\nE\nd \"@\"",
        );
        check(
            "cat <<-E <<'F'\n\t'{pathname}\n\tE\n\"\nF\nd {pathname}",
            "cat <<-E <<'F'\n\t'@\n\tE\n\"\nF\nd \"@\"",
        );
        check("a=$(cat <<E\n'\nE\n) b {pathname}", "a=$(cat <<E\n'\nE\n) b \"@\"");
        check("echo '<<' {pathname}", "echo '<<' \"@\"");
    }

    #[test]
    fn what_would_be_taken_as_it_is_written_is_refused() {
        for text in ["a '{pathname}' {pathname}", "a $'{pathname}'", "a \"$(b '{pathname}')\""] {
            refuse(text, "single quotes");
        }
        refuse("cat <<'E'\n{pathname}\nE", "here-document");
        refuse("cat <<{pathname}\n", "delimiter");
        for text in
            ["a \\{pathname}", "a \"\\{pathname}\"", "a ${pathname}", "a \"${pathname}\"", "a ${{task_id}}"]
        {
            refuse(text, "stands");
        }
        refuse("a $'it\\'s' {pathname}", "shells");
    }

    #[test]
    fn what_would_be_evaluated_again_is_refused() {
        for text in [
            "a $(({filename} + 1))",
            "a $(( (1 + {filename}) * 2 ))",
            "a $(( \"{filename}\" ))",
            "a $(( ${x:-{filename}} ))",
            "((x = {filename}))",
            "((a); (b {pathname}))",
            "a $[{filename}]",
            "a ${x:{filename}}",
            "a ${x[{filename}]}",
            "x[{filename}]=1",
            "[[ 1 -eq {filename} ]]",
            "[ {filename} -gt 1 ]",
            "test -v {filename}",
            "unset {filename}",
            "declare -i x={filename}",
            "declare {filename}=1",
            "export {filename}",
            "typeset -rn x={filename}",
        ] {
            refuse(text, "arithmetic");
        }
        for text in
            ["eval a {pathname}", "x=1 command eval \"{pathname}\"", "if trap {pathname} EXIT; then :; fi"]
        {
            refuse(text, "evaluates");
        }
        for text in [
            "sh -c 'wc {pathname}'",
            "sh -c \"wc {pathname}\"",
            "a | nice bash -o errexit -ec -- {pathname}",
            "x=$(sudo -u u sh -c \"cat {pathname}\")",
            "perl -ne \"print '{filename}'\" x",
            "awk -F : \"{print {filename}}\" x",
            "sed -n \"s/x/{filename}/\" x",
        ] {
            refuse(text, "code");
        }
    }

    #[test]
    fn numbers_of_the_daemon_may_be_evaluated() {
        assert_eq!(
            code("a $(( {task_id} % 2 )) {is_dir}"),
            "a $(( ${RINOTIFYD_TASK_ID} % 2 )) \"${RINOTIFYD_IS_DIR}\""
        );
        assert_eq!(code("[ {is_dir} -eq 1 ]"), "[ \"${RINOTIFYD_IS_DIR}\" -eq 1 ]");
    }

    #[test]
    fn arguments_are_not_code() {
        for text in [
            "sh -c 'wc \"$1\"' sh {pathname}",
            "sh {pathname}",
            "gcc -c {pathname}",
            "wc -c {pathname}",
            "perl -ne 'print' {pathname}",
            "awk -v x={filename} '{print x}' {pathname}",
            "sed -n p {pathname}",
            "echo eval {pathname}",
            "[ {filename} = x ]",
            "export x={filename}",
            "f() { local x={filename}; }",
            "flock /lock wc -c {pathname}",
        ] {
            code(text);
        }
    }

    #[test]
    fn another_machine_reads_its_command_again() {
        let (_, remarks) = Script::parse(b"ssh -p 22 host rm -- {pathname}");
        assert!(!remarks[0].is_error && remarks[0].message.contains("{pathname@Q}"), "{remarks:?}");
        assert_eq!(code("ssh host rm -- {pathname@Q}"), "ssh host rm -- \"${RINOTIFYD_PATH_QUOTED}\"");
        code("rsync -e ssh {pathname} host:/srv/");
    }

    const VALUES: Values<'_> = Values {
        kind: EventKind::MovedTo,
        path: b"/d/a\"$\\'b",
        src_path: b"",
        rel_path: b"a\"$\\'b",
        task_id: 7,
        is_dir: false,
        attempt: 1,
    };

    #[test]
    fn the_shown_command_does_the_same() {
        let shown = |text: &str| String::from_utf8(Script::parse(text.as_bytes()).0.shown(&VALUES)).unwrap();
        assert_eq!(shown("a {pathname} {task_id}"), "/bin/sh -c a '/d/a\"$\\'\\''b' '7'");
        assert_eq!(shown("a \"{filename}\""), "/bin/sh -c a \"a\\\"\\$\\\\'b\"");
        assert_eq!(shown("cat <<E\n{filename}\nE"), "/bin/sh -c cat <<E\na\"\\$\\\\'b\nE");
        assert_eq!(shown("a $(({task_id}+1))"), "/bin/sh -c a $((7+1))");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(text in prop::collection::vec(
            prop::sample::select(b"'\"\\ $()`#{}[]<-\n;c{pathnme_\xff\t".as_slice()), 0..80)
        ) {
            let (script, remarks) = Script::parse(&text);
            for remark in remarks {
                prop_assert!(remark.range.end <= text.len());
            }
            let _ = script.shown(&VALUES);
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_long_texts_are_read() {
        let text = ["$(", "\"$("].concat().repeat(100_000) + "{pathname}";
        refuse(&text, "nested");
        let text = "\"`${x:-".repeat(50_000) + "{pathname}";
        assert_eq!(Script::parse(text.as_bytes()).1.len(), 1);
        let many = "a \"{pathname}\" `b {pathname}` <<E\n{pathname}\nE\n".repeat(10_000);
        assert_eq!(Script::parse(many.as_bytes()).1, []);
    }
}

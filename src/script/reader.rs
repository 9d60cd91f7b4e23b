//! Where the placeholders of a shell command stand.
//!
//! This follows the token recognition and quoting of POSIX (POSIX.1-2017, Shell Command Language, 2.2,
//! 2.3, 2.6, 2.7.4) and what bash adds, as far as it decides which quotes a place is between. Backquotes
//! are read as shells read them: up to the next one, with a level of backslashes taken away.

use std::ops::Range;

use super::Form;
use super::evaluated::{self, Argument};
use crate::template::Value;

/// A placeholder.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where.
    pub range: Range<usize>,
    /// Which.
    pub value: Value,
    /// How it has to be written.
    pub form: Form,
    /// Why it cannot stand there.
    pub problem: Option<&'static str>,
    /// Another machine's shell reads it once more.
    pub is_remote: bool,
}

/// Constructs within constructs; each is a few frames of the stack.
const DEPTH_MAX: usize = 64;

const SINGLE: &str = "stands between single quotes, where sh takes everything as it is written: use double \
                      quotes or none";
const DOCUMENT: &str = "stands in a here-document whose delimiter is quoted, where sh takes everything as it \
                        is written: write the delimiter without quotes";
const DELIMITER: &str = "stands in the delimiter of a here-document, which sh takes as it is written";
const ESCAPED: &str = "stands behind a backslash, which would change its meaning: take that away";
const DOLLAR: &str = "stands behind a dollar sign, which would change its meaning: take that away";
const NAME: &str = "stands where sh expects the name of a variable";
const UNCLEAR: &str = "stands behind $'...\\'...', $[ or quotes in an expression, which shells read \
                       differently: write that in another way";
const NESTED: &str = "stands in too many nested quotes and parentheses, so it would never be replaced";

/// Finds the placeholders, in order.
pub fn read(text: &[u8]) -> Vec<Found> {
    let mut shared = Shared::default();
    Reader { text, at: 0, origin: None, shared: &mut shared, documents: Vec::new() }.commands(End::Text);
    let mut found = shared.found;
    found.sort_by_key(|found| found.range.start);
    found.dedup_by_key(|found| found.range.start);
    let mut known = found.iter().map(|found| found.range.start).peekable();
    let mut missed = Vec::new();
    for at in 0..text.len() {
        if known.next_if_eq(&at).is_some() {
            continue;
        }
        if let Some((value, len)) = Value::at(&text[at..]) {
            let range = at..at + len;
            missed.push(Found { range, value, form: Form::Word, problem: Some(NESTED), is_remote: false });
        }
    }
    found.append(&mut missed);
    found.sort_by_key(|found| found.range.start);
    found
}

/// What the readers of a text and of its backquotes have in common.
#[derive(Default)]
struct Shared {
    found: Vec<Found>,
    /// Why no placeholder can stand behind what was read.
    unclear: Option<&'static str>,
    /// Why none but numbers can stand in what is being read.
    evaluated: Option<&'static str>,
    depth: usize,
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// For each byte, where it stands in the command.
    origin: Option<&'a [usize]>,
    shared: &'a mut Shared,
    /// Here-documents that begin with the next line.
    documents: Vec<Document>,
}

/// What commands end at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Text,
    Parenthesis,
}

struct Document {
    delimiter: Vec<u8>,
    strips_tabs: bool,
    is_quoted: bool,
}

/// A word of a simple command.
#[derive(Default)]
struct Word {
    /// What is not expanded, without its quotes.
    text: Vec<u8>,
    /// It begins with a placeholder.
    begins_with_value: bool,
    /// Its placeholders, by index.
    found: Range<usize>,
}

/// Words before which a command can begin.
const RESERVED: [&[u8]; 10] =
    [b"then", b"do", b"else", b"elif", b"if", b"while", b"until", b"!", b"{", b"time"];

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Reads something that can hold itself, unless that is too deep.
    fn nested(&mut self, read: impl FnOnce(&mut Self)) {
        if self.shared.depth == DEPTH_MAX {
            self.at = self.text.len();
            return;
        }
        self.shared.depth += 1;
        read(self);
        self.shared.depth -= 1;
    }

    /// Takes a placeholder, if there is one.
    fn placeholder(&mut self, form: Form, problem: Option<&'static str>) -> bool {
        let Some((value, len)) = Value::at(self.rest()) else { return false };
        let start = self.origin.map_or(self.at, |origin| origin[self.at]);
        let shared = &mut *self.shared;
        let is_number = value.placeholder.is_number() && !value.quoted;
        let evaluated = shared.evaluated.filter(|_| !is_number);
        let form = if shared.evaluated.is_some() { Form::Bare } else { form };
        let problem = problem.or(evaluated).or(shared.unclear);
        let range = start..start + len;
        shared.found.push(Found { range, value, form, problem, is_remote: false });
        self.at += len;
        true
    }

    fn commands(&mut self, end: End) {
        let evaluated = self.shared.evaluated.take();
        self.nested(|reader| reader.lists(end));
        self.shared.evaluated = evaluated;
    }

    fn lists(&mut self, end: End) {
        let mut words = Vec::new();
        // `case` without its `esac`, in which a parenthesis ends a pattern.
        let mut cases = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' => self.at += 1,
                b'\n' => {
                    self.at += 1;
                    self.judge(&mut words);
                    self.here_documents();
                }
                b'#' => self.comment(),
                b'(' if self.rest().starts_with(b"((") => {
                    self.at += 2;
                    self.expression(2);
                }
                b'(' => {
                    self.judge(&mut words);
                    self.at += 1;
                    self.commands(End::Parenthesis);
                }
                b')' => {
                    self.judge(&mut words);
                    self.at += 1;
                    if cases == 0 && end == End::Parenthesis {
                        return;
                    }
                }
                b'&' if self.rest().starts_with(b"&>") => self.at += 1,
                b';' | b'&' | b'|' => {
                    self.judge(&mut words);
                    self.at += 1;
                }
                b'<' | b'>' => self.redirection(&mut words),
                _ => {
                    let begins = words.iter().all(|word: &Word| RESERVED.contains(&word.text.as_slice()));
                    let word = self.word();
                    match word.text.as_slice() {
                        b"case" if begins => cases += 1,
                        b"esac" if begins => cases = cases.saturating_sub(1),
                        _ => {}
                    }
                    words.push(word);
                }
            }
        }
        self.judge(&mut words);
    }

    /// A simple command is read: what does it do with its values?
    fn judge(&mut self, words: &mut Vec<Word>) {
        let found = &mut self.shared.found;
        let is_raw = |found: &Found| !found.value.placeholder.is_number() && !found.value.quoted;
        let arguments: Vec<_> = words
            .drain(..)
            .map(|word| Argument {
                text: word.text,
                begins_with_value: word.begins_with_value,
                has_value: found[word.found.clone()].iter().any(|one| !one.value.placeholder.is_number()),
                has_raw_value: found[word.found.clone()].iter().any(is_raw),
                found: word.found,
            })
            .collect();
        for (argument, reason) in evaluated::evaluated(&arguments) {
            for one in &mut found[argument.found.clone()] {
                if !one.value.placeholder.is_number() {
                    one.problem = Some(reason);
                }
            }
        }
        for argument in evaluated::remote(&arguments) {
            for one in &mut found[argument.found.clone()] {
                one.is_remote = is_raw(one);
            }
        }
    }

    fn comment(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            if !self.placeholder(Form::Bare, None) {
                self.at += 1;
            }
        }
    }

    fn redirection(&mut self, words: &mut Vec<Word>) {
        // The number of a descriptor is no word of the command.
        let before = self.at.checked_sub(1).map(|before| self.text[before]);
        let is_number = |word: &mut Word| !word.text.is_empty() && word.text.iter().all(u8::is_ascii_digit);
        if before.is_some_and(|byte| byte.is_ascii_digit()) {
            words.pop_if(is_number);
        }
        let rest = self.rest();
        if rest.starts_with(b"<<") && !rest.starts_with(b"<<<") {
            return self.document();
        }
        let is_operator = |byte: &&u8| b"<>&|".contains(byte);
        self.at += rest.iter().take(3).take_while(is_operator).count();
        if self.peek() == Some(b'(') {
            self.at += 1;
            return self.commands(End::Parenthesis);
        }
        self.blanks();
        let _ = self.word();
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// `<<` and the delimiter.
    fn document(&mut self) {
        self.at += 2;
        let strips_tabs = self.peek() == Some(b'-');
        self.at += usize::from(strips_tabs);
        self.blanks();
        let (mut delimiter, mut is_quoted) = (Vec::new(), false);
        let mut quote = None;
        while let Some(byte) = self.peek() {
            if self.placeholder(Form::Bare, Some(DELIMITER)) {
                continue;
            }
            match byte {
                b'\'' | b'"' if quote.is_none_or(|quote| quote == byte) => {
                    is_quoted = true;
                    quote = if quote.is_none() { Some(byte) } else { None };
                }
                b'\\' if quote != Some(b'\'') => {
                    is_quoted = true;
                    self.at += 1;
                    delimiter.extend(self.peek());
                }
                b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' if quote.is_none() => {
                    break;
                }
                _ => delimiter.push(byte),
            }
            self.at = self.text.len().min(self.at + 1);
        }
        self.documents.push(Document { delimiter, strips_tabs, is_quoted });
    }

    /// The here-documents of the line that has ended.
    fn here_documents(&mut self) {
        for document in std::mem::take(&mut self.documents) {
            let mut end = self.at;
            let after = loop {
                if end == self.text.len() {
                    break end;
                }
                let line = self.text[end..].split(|&byte| byte == b'\n').next().unwrap_or_default();
                let tabs = line.iter().take_while(|&&byte| document.strips_tabs && byte == b'\t').count();
                let next = self.text.len().min(end + line.len() + 1);
                if line[tabs..] == document.delimiter {
                    break next;
                }
                end = next;
            };
            self.body(end, document.is_quoted);
            self.at = after;
        }
    }

    fn body(&mut self, end: usize, is_quoted: bool) {
        if is_quoted {
            while self.at < end {
                if !self.placeholder(Form::Bare, Some(DOCUMENT)) {
                    self.at += 1;
                }
            }
            return;
        }
        let Self { text, at, origin, .. } = *self;
        let shared = &mut *self.shared;
        let mut body = Reader { text: &text[..end], at, origin, shared, documents: Vec::new() };
        body.quoted(Form::Document, &mut Word::default());
    }

    /// Up to what separates words.
    fn word(&mut self) -> Word {
        let first = self.shared.found.len();
        let mut word = Word { found: first..first, ..Word::default() };
        word.begins_with_value = Value::at(self.rest()).is_some();
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' => break,
                _ => self.plain(byte, &mut word),
            }
        }
        word.found.end = self.shared.found.len();
        word
    }

    /// Reads a token that stands outside of quotes.
    fn plain(&mut self, byte: u8, word: &mut Word) {
        if self.placeholder(Form::Word, None) {
            return;
        }
        self.at += 1;
        match byte {
            b'\'' => self.single(word),
            b'"' => self.nested(|reader| reader.quoted(Form::Quoted, word)),
            b'\\' => self.escaped(word, |_| true),
            b'$' => self.dollar(false, word),
            b'`' => self.backquote(false),
            _ => word.text.push(byte),
        }
    }

    /// Behind a backslash, which takes away the meaning of what `is_special`.
    fn escaped(&mut self, word: &mut Word, is_special: fn(u8) -> bool) {
        if self.placeholder(Form::Bare, Some(ESCAPED)) {
            return;
        }
        match self.peek() {
            Some(b'\n') => self.at += 1,
            Some(next) if is_special(next) => {
                word.text.push(next);
                self.at += 1;
            }
            _ => word.text.push(b'\\'),
        }
    }

    /// Behind a single quote.
    fn single(&mut self, word: &mut Word) {
        while let Some(byte) = self.peek() {
            if self.placeholder(Form::Bare, Some(SINGLE)) {
                continue;
            }
            self.at += 1;
            if byte == b'\'' {
                return;
            }
            word.text.push(byte);
        }
    }

    /// Behind a double quote, up to the next; a here-document up to its end.
    fn quoted(&mut self, form: Form, word: &mut Word) {
        while let Some(byte) = self.peek() {
            if self.placeholder(form, None) {
                continue;
            }
            self.at += 1;
            match byte {
                b'"' if form == Form::Quoted => return,
                b'\\' => self.escaped(word, |next| b"\"\\$`".contains(&next)),
                b'$' => self.dollar(true, word),
                b'`' => self.backquote(form == Form::Quoted),
                _ => word.text.push(byte),
            }
        }
    }

    /// Behind a dollar sign.
    fn dollar(&mut self, is_quoted: bool, word: &mut Word) {
        if self.placeholder(Form::Bare, Some(DOLLAR)) {
            return;
        }
        match self.rest() {
            [b'(', b'(', ..] => {
                self.at += 2;
                self.expression(2);
            }
            [b'(', ..] => {
                self.at += 1;
                self.commands(End::Parenthesis);
            }
            [b'{', ..] => {
                self.at += 1;
                self.nested(|reader| reader.braces(is_quoted));
            }
            [b'[', ..] => self.shared.unclear = self.shared.unclear.or(Some(evaluated::ARITHMETIC)),
            [b'\'', ..] if !is_quoted => {
                self.at += 1;
                self.ansi();
            }
            [b'$' | b'#' | b'?' | b'!' | b'*' | b'@' | b'-', ..] => self.at += 1,
            // A variable, or nothing special.
            _ => word.text.push(b'$'),
        }
    }

    /// Behind `$'`. What does not know that ends at the first quote.
    fn ansi(&mut self) {
        while let Some(byte) = self.peek() {
            if self.placeholder(Form::Bare, Some(SINGLE)) {
                continue;
            }
            self.at += 1;
            match byte {
                b'\'' => return,
                b'\\' => {
                    if self.peek() == Some(b'\'') {
                        self.shared.unclear = self.shared.unclear.or(Some(UNCLEAR));
                    }
                    self.at = self.text.len().min(self.at + 1);
                }
                _ => {}
            }
        }
    }

    /// Behind the parentheses of an arithmetic expression, or of two subshells.
    fn expression(&mut self, open: usize) {
        self.evaluated_until(open, b'(', b')');
    }

    /// Up to the partner of so many brackets: what is evaluated as an expression.
    fn evaluated_until(&mut self, mut open: usize, opening: u8, closing: u8) {
        let outer = self.shared.evaluated.replace(evaluated::ARITHMETIC);
        self.nested(|reader| {
            while open > 0
                && let Some(byte) = reader.peek()
            {
                if reader.placeholder(Form::Bare, None) {
                    continue;
                }
                reader.at += 1;
                match byte {
                    byte if byte == opening => open += 1,
                    byte if byte == closing => open -= 1,
                    b'"' | b'\'' => reader.shared.unclear = reader.shared.unclear.or(Some(UNCLEAR)),
                    b'\\' => reader.escaped(&mut Word::default(), |_| true),
                    b'$' => reader.dollar(true, &mut Word::default()),
                    b'`' => reader.backquote(false),
                    _ => {}
                }
            }
        });
        self.shared.evaluated = outer;
    }

    /// Behind `${`.
    fn braces(&mut self, is_quoted: bool) {
        if self.placeholder(Form::Bare, Some(NAME)) {
            return;
        }
        let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        if let [b'!' | b'#', next, ..] = self.rest()
            && *next != b'}'
        {
            self.at += 1;
        }
        if self.placeholder(Form::Bare, Some(NAME)) {
            return;
        }
        let len = self.rest().iter().take_while(is_name).count();
        self.at += len;
        if len == 0 && matches!(self.peek(), Some(b'@' | b'*' | b'#' | b'?' | b'$' | b'!' | b'-')) {
            self.at += 1;
        }
        if self.peek() == Some(b'[') {
            self.at += 1;
            self.evaluated_until(1, b'[', b']');
        }
        match self.rest() {
            [b':', b'-' | b'=' | b'?' | b'+', ..] => {
                self.at += 2;
                self.operand(is_quoted);
            }
            [b'-' | b'=' | b'?' | b'+', ..] => {
                self.at += 1;
                self.operand(is_quoted);
            }
            // A part of the value, from one place to another.
            [b':', ..] => self.evaluated_until(1, b'{', b'}'),
            // Quotes around do not count for a pattern (2.6.2).
            _ => self.operand(false),
        }
    }

    /// What stands between the operator and the `}`.
    fn operand(&mut self, is_quoted: bool) {
        let mut word = Word::default();
        while let Some(byte) = self.peek() {
            if byte == b'}' {
                self.at += 1;
                return;
            }
            if !is_quoted {
                self.plain(byte, &mut word);
                continue;
            }
            if self.placeholder(Form::Quoted, None) {
                continue;
            }
            self.at += 1;
            match byte {
                b'"' => self.nested(|reader| reader.quoted(Form::Quoted, &mut word)),
                b'\\' => self.escaped(&mut word, |next| b"\"\\$`}".contains(&next)),
                b'$' => self.dollar(true, &mut word),
                b'`' => self.backquote(true),
                _ => {}
            }
        }
    }

    /// Behind a backquote. Between double quotes, those lose a backslash too.
    fn backquote(&mut self, is_quoted: bool) {
        let (mut text, mut origin) = (Vec::new(), Vec::new());
        while let Some(mut byte) = self.peek() {
            if byte == b'`' {
                break;
            }
            let next = self.text.get(self.at + 1).copied();
            if byte == b'\\' {
                let is_special = |next: u8| b"\\$`".contains(&next) || is_quoted && next == b'"';
                if let Some(next) = next.filter(|next| is_special(*next)) {
                    self.at += 1;
                    byte = next;
                } else if let Some(next) = next {
                    text.push(byte);
                    origin.push(self.origin.map_or(self.at, |origin| origin[self.at]));
                    self.at += 1;
                    byte = next;
                }
            }
            text.push(byte);
            origin.push(self.origin.map_or(self.at, |origin| origin[self.at]));
            self.at += 1;
        }
        self.at = self.text.len().min(self.at + 1);
        let shared = &mut *self.shared;
        let mut inner = Reader { text: &text, at: 0, origin: Some(&origin), shared, documents: Vec::new() };
        inner.commands(End::Text);
    }
}

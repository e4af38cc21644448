//! Works out arithmetic that a message asks for: decides whether a message is a calculation, and what it comes to.
//!
//! Pure: no clock, no input or output, no state between messages. Work is bounded by the length of the message, its
//! nesting, its operations and the size of every number; a number that would be larger is refused from an estimate,
//! before it is computed.
//!
//! What is written, tightest first:
//!
//! - numbers `12`, `1_000`, `1,000,000`, `.5`, `1.5e3`, `0xff`, `0b101`, `0o17`; constants `pi`, `e`, `tau`; calls;
//!   parentheses. Commas group digits only outside calls, where they stand between arguments, and only as one to
//!   three digits followed by groups of exactly three. `2e+3` is two thousand, not a sum with Euler's number.
//! - after an operand: `!`, and `%` or `percent`. A `%` that stands before a number, a name or an opening parenthesis
//!   is the modulo operator instead (`10 % 3`); before anything else, a sign included, it is a percentage
//!   (`10% - 3` is -2.9). The word `percent` is never modulo.
//! - `^` and `**`, grouping to the right.
//! - signs: `-2^2` is -4.
//! - `*`, `/`, `mod`, `times`, `divided by`, modulo `%`, `of` after a percentage, and multiplication left unwritten
//!   before a name or a parenthesis, all alike and from the left: `1/2pi` is half of pi. Modulo takes the sign of
//!   the divisor.
//! - `+`, `-`, `plus`, `minus`. A bare percentage on the right is of what stands on the left (`200 + 10%` is 220),
//!   unless the left side is made of percentages only (`10% + 5%` is 0.15). Parentheses make it an ordinary number.
//!
//! Integers and fractions stay exact; a function that leaves the rationals answers in double precision, and what is
//! computed from that stays there. Angles are in radians. Names are read without regard to case.

use std::cmp::Ordering;
use std::error::Error;
use std::fmt::{self, Write as _};

use smallvec::{SmallVec, smallvec};

/// Longest message that is read, in bytes.
const MESSAGE_BYTES: usize = 4096;
/// Parentheses, calls and stacked powers inside each other.
const DEPTH: usize = 64;
/// Operators and calls in one expression.
const OPERATIONS: usize = 256;
/// Largest numerator or denominator, in bits: more than 1000 decimal digits.
const BITS: usize = 4096;
/// Sum over all operations of the operands' sizes times the largest of them, in 32-bit limbs: what bounds the time.
const WORK: usize = 1 << 20;
/// What a common divisor costs, and with it every fraction, against a multiplication of the same size.
const DIVISORS: usize = 4;
/// Fractional digits to which an exact decimal is written in full.
const FRACTION_DIGITS: usize = 30;
/// Bits of as many digits.
const FRACTION_BITS: usize = 100;
/// Digits of a rounded result.
const SIGNIFICANT: u8 = 15;
/// Largest degree of a root that is tried exactly.
const EXACT_ROOT: u32 = 64;

/// What may stand before the expression.
const VERBS: [&str; 10] = [
    "how much is",
    "what is",
    "what's",
    "what\u{2019}s",
    "calculate",
    "calc",
    "compute",
    "evaluate",
    "eval",
    "solve",
];

/// An expression that consumed the whole message.
#[derive(Clone, Debug)]
pub struct Expression<'a> {
    /// The operations in the order they are done, operands first.
    steps: Vec<Step<'a>>,
}

impl<'a> Expression<'a> {
    /// Reads a message that nobody assigned to this skill.
    ///
    /// `Some` only if the whole message is a calculation: a verb and any expression, or without a verb an expression
    /// with a digit and at least one operator between operands or one call, that does not look like a date and holds
    /// no number with a leading zero.
    pub fn claim(message: &'a str) -> Option<Self> {
        let question = Question::new(message).ok()?;
        if !question.has_verb && is_date(question.text()) {
            return None;
        }
        let mut parser = Parser::new(&question);
        parser.run().ok()?;
        let plain = parser.joins && parser.digits && !parser.leading_zero;
        (question.has_verb || plain).then_some(Self { steps: parser.steps })
    }

    /// Reads a message whose sender chose this skill; the verb is optional and a bare number will do.
    ///
    /// # Errors
    /// What was not understood, and at which character of the message, counted from 1.
    pub fn parse(message: &'a str) -> Result<Self, CalculatorError> {
        let question = Question::new(message)?;
        let mut parser = Parser::new(&question);
        parser.run()?;
        Ok(Self { steps: parser.steps })
    }

    /// Does the calculation.
    ///
    /// # Errors
    /// When there is no result, or none within the bounds.
    pub fn evaluate(&self) -> Result<Value, CalculatorError> {
        let mut stack: SmallVec<[Number; 4]> = SmallVec::new();
        let mut work = 0;
        for step in &self.steps {
            let result = match step {
                Step::Constant(value) => Number::Float(*value),
                Step::Literal(text) => {
                    let ratio = literal(text).ok_or(CalculatorError::TooLarge)?;
                    work += ratio.limbs() * ratio.limbs();
                    Number::Exact(ratio)
                }
                Step::Apply(function, count) => {
                    let first = stack.len().saturating_sub(*count);
                    let operands = &stack[first..];
                    let sizes = operands.iter().map(Number::limbs);
                    let reduces = function.reduces()
                        || operands.iter().any(|operand| operand.whole().is_none());
                    let weight = if reduces { DIVISORS } else { 1 };
                    work += weight * sizes.clone().sum::<usize>() * sizes.max().unwrap_or(0);
                    if work > WORK {
                        return Err(CalculatorError::TooMuchWork);
                    }
                    let result = function.apply(operands)?.checked()?;
                    stack.truncate(first);
                    result
                }
            };
            if work > WORK {
                return Err(CalculatorError::TooMuchWork);
            }
            stack.push(result);
        }
        stack.pop().map(Value).ok_or(CalculatorError::Empty)
    }
}

/// The result of a calculation. Its `Display` is the number as text.
///
/// Integers are written in full, and so are decimals of up to 30 fractional digits; everything else is rounded to 15
/// significant digits, in scientific notation from 1e21 up and below 1e-9.
#[derive(Clone, Debug)]
pub struct Value(Number);

impl Value {
    /// Whether the text is the very value, not a rounding of it: false for `1/3` and for `sqrt(2)`.
    pub fn is_exact(&self) -> bool {
        match &self.0 {
            Number::Exact(ratio) => ratio.decimal().is_some(),
            Number::Float(_) => false,
        }
    }
}

impl Value {
    /// The number as text.
    pub fn text(&self) -> String {
        let (ratio, decimal) = match &self.0 {
            Number::Exact(ratio) => (ratio, ratio.decimal()),
            Number::Float(value) => (&Ratio::from_float(*value), None),
        };
        let mut text = decimal.unwrap_or_else(|| ratio.rounded());
        if ratio.negative {
            text.insert(0, '-');
        }
        text
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// Why a message is no expression, or an expression has no result. Characters are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalculatorError {
    /// Nothing but white space, a verb or a question mark.
    Empty,
    /// The message has more than 4096 bytes.
    TooLong,
    /// Something else stands where `what` has to.
    Expected {
        what: &'static str,
        found: String,
        at: usize,
    },
    /// A name that is neither a constant nor a function.
    UnknownName {
        name: String,
        at: usize,
    },
    /// A call with too few or too many arguments; `takes` says how many there are to be.
    Arguments {
        function: &'static str,
        takes: &'static str,
        at: usize,
    },
    /// More than 64 parentheses, calls or powers inside each other.
    TooDeep {
        at: usize,
    },
    /// More than 256 operators and calls.
    TooManyOperations {
        at: usize,
    },
    DivisionByZero,
    /// A numerator or denominator of more than 4096 bits.
    TooLarge,
    /// Each number is within its bound, all of them together would keep the processor too long.
    TooMuchWork,
    /// A square root of a negative number, a logarithm of zero and the like.
    NotReal,
    /// Beyond what double precision can hold.
    OutOfRange,
    /// An operand is not of the kind that `rule` asks for.
    NotWhole {
        rule: &'static str,
    },
}

impl fmt::Display for CalculatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is nothing to calculate"),
            Self::TooLong => write!(f, "message is too long: more than {MESSAGE_BYTES} bytes"),
            Self::Expected { what, found, at } if found.is_empty() => {
                write!(f, "expected {what} at character {at}, found the end")
            }
            Self::Expected { what, found, at } => {
                write!(f, "expected {what} at character {at}, found `{found}`")
            }
            Self::UnknownName { name, at } => {
                write!(f, "unknown name `{name}` at character {at}; functions are ")?;
                for (nth, entry) in FUNCTIONS.iter().enumerate() {
                    write!(f, "{}{}", if nth == 0 { "" } else { ", " }, entry.name)?;
                }
                f.write_str("; constants are pi, e, tau")
            }
            Self::Arguments { function, takes, at } => {
                write!(f, "{function} takes {takes}, at character {at}")
            }
            Self::TooDeep { at } => {
                write!(f, "expression is too deep: more than {DEPTH} levels at character {at}")
            }
            Self::TooManyOperations { at } => {
                write!(
                    f,
                    "expression is too long: more than {OPERATIONS} operations at character {at}"
                )
            }
            Self::DivisionByZero => f.write_str("division by zero"),
            Self::TooLarge => f.write_str("result is too large: more than 1000 digits"),
            Self::TooMuchWork => f.write_str("calculation takes too much work"),
            Self::NotReal => f.write_str("result is not a real number"),
            Self::OutOfRange => f.write_str("result is out of range"),
            Self::NotWhole { rule } => f.write_str(rule),
        }
    }
}

impl Error for CalculatorError {}

/// A message with the verb and the closing `=`, `?` and full stop set aside.
struct Question<'a> {
    message: &'a str,
    start: usize,
    end: usize,
    has_verb: bool,
}

impl<'a> Question<'a> {
    fn new(message: &'a str) -> Result<Self, CalculatorError> {
        if message.len() > MESSAGE_BYTES {
            return Err(CalculatorError::TooLong);
        }
        let end = message
            .trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '=' | '?' | '.'))
            .len();
        let mut rest = message[..end].trim_start();
        rest = strip_words(rest, "please").unwrap_or(rest);
        let verb = VERBS.iter().find_map(|verb| strip_words(rest, verb));
        if let Some(after) = verb {
            rest = after.strip_prefix(':').unwrap_or(after).trim_start();
        }
        if rest.is_empty() {
            return Err(CalculatorError::Empty);
        }
        Ok(Self { message, start: end - rest.len(), end, has_verb: verb.is_some() })
    }

    fn text(&self) -> &'a str {
        &self.message[self.start..self.end]
    }
}

/// `text` after `words`, which any white space may separate and no letter or digit may follow.
fn strip_words<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    // Most words are told apart by their first letter.
    if text.bytes().next().map(|byte| byte.to_ascii_lowercase()) != words.bytes().next() {
        return None;
    }
    let mut rest = text;
    for word in words.split(' ') {
        let (head, tail) = rest.trim_start().split_at_checked(word.len())?;
        if !head.eq_ignore_ascii_case(word) || tail.starts_with(is_name_character) {
            return None;
        }
        rest = tail;
    }
    Some(rest.trim_start())
}

/// Whether `text` reads as a day: three numbers with dashes or slashes, the year first or last and of four digits.
fn is_date(text: &str) -> bool {
    let lengths = |separator| -> Vec<usize> {
        let parts = text.splitn(4, separator);
        parts.map(|p| if p.bytes().all(|b| b.is_ascii_digit()) { p.len() } else { 0 }).collect()
    };
    ['-', '/']
        .into_iter()
        .any(|separator| matches!(lengths(separator)[..], [4, 1 | 2, 1 | 2] | [1 | 2, 1 | 2, 4]))
}

fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What is done, in order, with a stack of operands.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// A number as it was written.
    Literal(&'a str),
    Constant(f64),
    /// Replaces that many operands by a result.
    Apply(Function, usize),
}

#[derive(Clone, Copy, Debug)]
enum Token<'a> {
    Number(&'a str),
    Name(&'a str),
    /// An operator or bracket, `**` as `^` and the Unicode operators as their ASCII likes.
    Sign(char),
    End,
}

/// The token at the start of `text`, which has no white space there, and its length. In a call commas do not belong
/// to numbers.
fn token(text: &str, in_call: bool) -> (Token<'_>, usize) {
    let Some(first) = text.chars().next() else {
        return (Token::End, 0);
    };
    let length = number_length(text, in_call);
    if length > 0 {
        return (Token::Number(&text[..length]), length);
    }
    if first.is_alphabetic() {
        let length = text.find(|c| !is_name_character(c)).unwrap_or(text.len());
        return (Token::Name(&text[..length]), length);
    }
    if text.starts_with("**") {
        return (Token::Sign('^'), 2);
    }
    let sign = match first {
        '\u{d7}' | '\u{b7}' | '\u{22c5}' | '\u{2219}' => '*',
        '\u{f7}' | '\u{2215}' => '/',
        '\u{2212}' | '\u{2013}' => '-',
        other => other,
    };
    (Token::Sign(sign), first.len_utf8())
}

/// Bytes of the number at the start of `text`; 0 if there is none.
fn number_length(text: &str, in_call: bool) -> usize {
    let bytes = text.as_bytes();
    if let Some(radix) = radix_of(text) {
        let end = digits_end(bytes, 2, radix);
        if end > 2 {
            return end;
        }
    }
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = digits_end(bytes, 0, 10);
    if !in_call && (1..=3).contains(&end) && !text.starts_with('0') {
        while bytes.get(end) == Some(&b',')
            && (1..=3).all(|n| digit(end + n))
            && digits_end(bytes, end + 1, 10) == end + 4
        {
            end += 4;
        }
    }
    if bytes.get(end) == Some(&b'.') && digit(end + 1) {
        end = digits_end(bytes, end + 1, 10);
    }
    if end > 0 && matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if digit(end + 1 + sign) {
            end = digits_end(bytes, end + 1 + sign, 10);
        }
    }
    end
}

/// Where the digits from `start` on end; an underscore may stand between two of them.
fn digits_end(bytes: &[u8], start: usize, radix: u32) -> usize {
    let digit = |at: usize| bytes.get(at).is_some_and(|b| char::from(*b).is_digit(radix));
    let mut at = start;
    while digit(at) || (at > start && bytes.get(at) == Some(&b'_') && digit(at + 1)) {
        at += 1;
    }
    at
}

/// The base that a prefix such as `0x` announces.
fn radix_of(text: &str) -> Option<u32> {
    let bytes = text.as_bytes();
    match (bytes.first()?, bytes.get(1)?.to_ascii_lowercase()) {
        (b'0', b'x') => Some(16),
        (b'0', b'o') => Some(8),
        (b'0', b'b') => Some(2),
        _ => None,
    }
}

/// The value of a number token; `None` when it is beyond the bounds.
fn literal(text: &str) -> Option<Ratio> {
    if let Ok(small) = text.parse::<u32>() {
        return Some(Ratio::whole(small.into()));
    }
    let radix = radix_of(text);
    let (digits, exponent) = match radix {
        Some(_) => (text.get(2..)?, "0"),
        None => text.split_once(['e', 'E']).unwrap_or((text, "0")),
    };
    let mut exponent: i64 = exponent.replace('_', "").parse().ok()?;
    let mut value = Natural::default();
    let mut in_fraction = false;
    for c in digits.chars() {
        in_fraction |= c == '.';
        if let Some(digit) = c.to_digit(radix.unwrap_or(10)) {
            value.scale_and_add(radix.unwrap_or(10), digit);
            exponent = exponent.checked_sub(i64::from(in_fraction))?;
        }
        // A fraction may be that much longer than its numerator in lowest terms: see `decimal`.
        if value.bits() > BITS + FRACTION_BITS {
            return None;
        }
    }
    if value.is_zero() {
        return Some(Ratio::whole(value));
    }
    let power = Natural::from(10).power(exponent.unsigned_abs())?;
    let ratio = if exponent < 0 {
        Ratio::reduced(false, &value, &power)
    } else {
        Ratio::whole(value.times(&power))
    };
    ratio.is_bounded().then_some(ratio)
}

/// Reads an expression by recursive descent and writes its steps.
struct Parser<'a> {
    message: &'a str,
    /// Where the expression ends in `message`.
    end: usize,
    /// Byte of `message` where the token at hand begins.
    at: usize,
    token: Token<'a>,
    /// Bytes of that token.
    length: usize,
    calls: usize,
    depth: usize,
    operations: usize,
    steps: Vec<Step<'a>>,
    /// There is a call, or an operator between two operands.
    joins: bool,
    digits: bool,
    leading_zero: bool,
}

/// Whether an operand is a percentage and nothing else.
type IsPercentage = bool;

impl<'a> Parser<'a> {
    fn new(question: &Question<'a>) -> Self {
        let mut parser = Self {
            message: question.message,
            end: question.end,
            at: question.start,
            token: Token::End,
            length: 0,
            calls: 0,
            depth: 0,
            operations: 0,
            steps: Vec::new(),
            joins: false,
            digits: false,
            leading_zero: false,
        };
        parser.scan();
        parser
    }

    fn run(&mut self) -> Result<(), CalculatorError> {
        self.sum()?;
        match self.peek() {
            Token::End => Ok(()),
            Token::Number(_) | Token::Name(_) | Token::Sign(_) => Err(self.expected("an operator")),
        }
    }

    fn sum(&mut self) -> Result<(), CalculatorError> {
        let mut left = self.product()?;
        loop {
            let subtracts = match self.peek() {
                Token::Sign('+') => false,
                Token::Sign('-') => true,
                Token::Name(name) if name.eq_ignore_ascii_case("plus") => false,
                Token::Name(name) if name.eq_ignore_ascii_case("minus") => true,
                _ => return Ok(()),
            };
            self.advance();
            let right = self.product()?;
            self.join(match (subtracts, right && !left) {
                (false, false) => Function::Add,
                (false, true) => Function::AddPart,
                (true, false) => Function::Subtract,
                (true, true) => Function::SubtractPart,
            })?;
            left &= right;
        }
    }

    fn product(&mut self) -> Result<IsPercentage, CalculatorError> {
        let mut last = self.signed()?;
        let mut alone = true;
        loop {
            let operator = match self.peek() {
                Token::Sign('*') => Some(Function::Multiply),
                Token::Sign('/') => Some(Function::Divide),
                // Had it been a percentage, the operand would have taken it.
                Token::Sign('%') => Some(Function::Modulo),
                Token::Sign('(') => None,
                Token::Name(name) => match infix(name) {
                    Infix::Times => Some(Function::Multiply),
                    Infix::Divided => {
                        self.advance();
                        match self.peek() {
                            Token::Name(by) if by.eq_ignore_ascii_case("by") => {}
                            _ => return Err(self.expected("`by`")),
                        }
                        Some(Function::Divide)
                    }
                    Infix::Modulo => Some(Function::Modulo),
                    Infix::Of if last => Some(Function::Multiply),
                    Infix::Of | Infix::Looser => return Ok(alone && last),
                    Infix::None => None,
                },
                Token::Sign(_) | Token::Number(_) | Token::End => return Ok(alone && last),
            };
            last = if operator.is_some() {
                self.advance();
                self.signed()?
            } else {
                self.power()?
            };
            alone = false;
            self.join(operator.unwrap_or(Function::Multiply))?;
        }
    }

    fn signed(&mut self) -> Result<IsPercentage, CalculatorError> {
        let mut negative = false;
        while let Token::Sign(sign @ ('+' | '-')) = self.peek() {
            negative ^= sign == '-';
            self.advance();
        }
        let percentage = self.power()?;
        if negative {
            self.apply(Function::Negate, 1)?;
        }
        Ok(percentage)
    }

    fn power(&mut self) -> Result<IsPercentage, CalculatorError> {
        let percentage = self.operand()?;
        if !matches!(self.peek(), Token::Sign('^')) {
            return Ok(percentage);
        }
        self.enter()?;
        self.advance();
        self.signed()?;
        self.depth -= 1;
        self.join(Function::Power)?;
        Ok(false)
    }

    fn operand(&mut self) -> Result<IsPercentage, CalculatorError> {
        self.primary()?;
        let mut percentage = false;
        loop {
            match self.peek() {
                Token::Sign('!') => {
                    percentage = false;
                    self.advance();
                    self.apply(Function::Factorial, 1)?;
                }
                Token::Sign('%') if !self.operand_follows() => percentage = true,
                Token::Name(name) if name.eq_ignore_ascii_case("percent") => percentage = true,
                _ => return Ok(percentage),
            }
            if percentage {
                self.advance();
                self.apply(Function::Percent, 1)?;
            }
        }
    }

    fn primary(&mut self) -> Result<(), CalculatorError> {
        match self.peek() {
            Token::Number(text) => {
                let bytes = text.as_bytes();
                self.digits = true;
                self.leading_zero |=
                    bytes[0] == b'0' && bytes.get(1).is_some_and(u8::is_ascii_digit);
                self.steps.push(Step::Literal(text));
                self.advance();
                Ok(())
            }
            Token::Name(name) => {
                if let Some(value) = constant(name) {
                    self.advance();
                    self.steps.push(Step::Constant(value));
                    return Ok(());
                }
                let entry = FUNCTIONS.iter().find(|e| e.name.eq_ignore_ascii_case(name));
                let at = self.character();
                let entry = entry.ok_or_else(|| {
                    let name = name.chars().take(SHOWN).collect();
                    CalculatorError::UnknownName { name, at }
                })?;
                self.advance();
                self.call(entry, at)
            }
            Token::Sign('(') => {
                self.enter()?;
                self.advance();
                self.sum()?;
                self.depth -= 1;
                self.take(')', "an operator or `)`")
            }
            Token::Sign(_) | Token::End => Err(self.expected("a number")),
        }
    }

    fn call(&mut self, entry: &Entry, at: usize) -> Result<(), CalculatorError> {
        self.take('(', "`(`")?;
        self.enter()?;
        self.calls += 1;
        self.scan();
        let mut count = 1;
        self.sum()?;
        while let Token::Sign(',') = self.peek() {
            self.advance();
            self.sum()?;
            count += 1;
        }
        self.calls -= 1;
        self.depth -= 1;
        self.scan();
        self.take(')', "an operator, `,` or `)`")?;
        if count < entry.least || count > entry.most {
            let takes = entry.takes();
            return Err(CalculatorError::Arguments { function: entry.name, takes, at });
        }
        self.joins = true;
        self.apply(entry.function, count)
    }

    fn join(&mut self, function: Function) -> Result<(), CalculatorError> {
        self.joins = true;
        self.apply(function, 2)
    }

    fn apply(&mut self, function: Function, count: usize) -> Result<(), CalculatorError> {
        if self.operations == OPERATIONS {
            return Err(CalculatorError::TooManyOperations { at: self.character() });
        }
        self.operations += 1;
        self.steps.push(Step::Apply(function, count));
        Ok(())
    }

    fn enter(&mut self) -> Result<(), CalculatorError> {
        if self.depth == DEPTH {
            return Err(CalculatorError::TooDeep { at: self.character() });
        }
        self.depth += 1;
        Ok(())
    }

    /// What is left to read, from the token at hand on.
    fn rest(&self) -> &'a str {
        &self.message[self.at..self.end]
    }

    fn peek(&self) -> Token<'a> {
        self.token
    }

    fn advance(&mut self) {
        self.at += self.length;
        self.scan();
    }

    /// Reads the token at hand, which is another one when a call has begun or ended.
    fn scan(&mut self) {
        let rest = self.rest().trim_start();
        self.at = self.end - rest.len();
        (self.token, self.length) = token(rest, self.calls > 0);
    }

    fn take(&mut self, sign: char, what: &'static str) -> Result<(), CalculatorError> {
        match self.peek() {
            Token::Sign(found) if found == sign => {
                self.advance();
                Ok(())
            }
            _ => Err(self.expected(what)),
        }
    }

    /// Whether the token after the one at hand begins an operand and is no sign.
    fn operand_follows(&self) -> bool {
        match token(self.rest()[self.length..].trim_start(), self.calls > 0).0 {
            Token::Number(_) => true,
            Token::Name(name) => infix(name) == Infix::None,
            Token::Sign(sign) => sign == '(',
            Token::End => false,
        }
    }

    /// Which character of the message comes next.
    fn character(&self) -> usize {
        self.message[..self.at].chars().count() + 1
    }

    fn expected(&self, what: &'static str) -> CalculatorError {
        let found = self.rest()[..self.length].chars().take(SHOWN).collect();
        CalculatorError::Expected { what, found, at: self.character() }
    }
}

/// Characters of the message that an error repeats.
const SHOWN: usize = 32;

/// What a word means after an operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Infix {
    Times,
    Divided,
    Modulo,
    Of,
    /// An operator that binds less than a product.
    Looser,
    None,
}

fn infix(name: &str) -> Infix {
    const WORDS: [(&str, Infix); 7] = [
        ("times", Infix::Times),
        ("divided", Infix::Divided),
        ("mod", Infix::Modulo),
        ("of", Infix::Of),
        ("plus", Infix::Looser),
        ("minus", Infix::Looser),
        ("percent", Infix::Looser),
    ];
    let word = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(name));
    word.map_or(Infix::None, |(_, meaning)| *meaning)
}

fn constant(name: &str) -> Option<f64> {
    match name {
        "\u{3c0}" => Some(std::f64::consts::PI),
        "\u{3c4}" => Some(std::f64::consts::TAU),
        _ if name.eq_ignore_ascii_case("pi") => Some(std::f64::consts::PI),
        _ if name.eq_ignore_ascii_case("tau") => Some(std::f64::consts::TAU),
        _ if name.eq_ignore_ascii_case("e") => Some(std::f64::consts::E),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug)]
enum Function {
    Negate,
    Add,
    Subtract,
    /// `a + b%`, the percentage taken of `a`.
    AddPart,
    SubtractPart,
    Multiply,
    Divide,
    Modulo,
    Power,
    Percent,
    Factorial,
    Abs,
    Sign,
    Floor,
    Ceil,
    Trunc,
    Round,
    Sqrt,
    Cbrt,
    Root,
    Exp,
    Ln,
    Log,
    Log2,
    Log10,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Atan2,
    Sinh,
    Cosh,
    Tanh,
    Deg,
    Rad,
    Hypot,
    Min,
    Max,
    Sum,
    Mean,
    Gcd,
    Lcm,
}

/// A function as it is called.
struct Entry {
    name: &'static str,
    function: Function,
    /// Fewest arguments.
    least: usize,
    /// Most arguments.
    most: usize,
}

const fn entry(name: &'static str, function: Function, least: usize, most: usize) -> Entry {
    Entry { name, function, least, most }
}

/// As many arguments as the message holds.
const ANY: usize = usize::MAX;

const FUNCTIONS: [Entry; 40] = [
    entry("abs", Function::Abs, 1, 1),
    entry("sqrt", Function::Sqrt, 1, 1),
    entry("cbrt", Function::Cbrt, 1, 1),
    entry("root", Function::Root, 2, 2),
    entry("pow", Function::Power, 2, 2),
    entry("exp", Function::Exp, 1, 1),
    entry("ln", Function::Ln, 1, 1),
    entry("log", Function::Log, 1, 2),
    entry("log2", Function::Log2, 1, 1),
    entry("log10", Function::Log10, 1, 1),
    entry("sign", Function::Sign, 1, 1),
    entry("floor", Function::Floor, 1, 1),
    entry("ceil", Function::Ceil, 1, 1),
    entry("trunc", Function::Trunc, 1, 1),
    entry("round", Function::Round, 1, 2),
    entry("mod", Function::Modulo, 2, 2),
    entry("min", Function::Min, 1, ANY),
    entry("max", Function::Max, 1, ANY),
    entry("sum", Function::Sum, 1, ANY),
    entry("avg", Function::Mean, 1, ANY),
    entry("mean", Function::Mean, 1, ANY),
    entry("gcd", Function::Gcd, 1, ANY),
    entry("lcm", Function::Lcm, 1, ANY),
    entry("factorial", Function::Factorial, 1, 1),
    entry("fact", Function::Factorial, 1, 1),
    entry("hypot", Function::Hypot, 2, 2),
    entry("sin", Function::Sin, 1, 1),
    entry("cos", Function::Cos, 1, 1),
    entry("tan", Function::Tan, 1, 1),
    entry("asin", Function::Asin, 1, 1),
    entry("acos", Function::Acos, 1, 1),
    entry("atan", Function::Atan, 1, 1),
    entry("atan2", Function::Atan2, 2, 2),
    entry("sinh", Function::Sinh, 1, 1),
    entry("cosh", Function::Cosh, 1, 1),
    entry("tanh", Function::Tanh, 1, 1),
    entry("deg", Function::Deg, 1, 1),
    entry("rad", Function::Rad, 1, 1),
    entry("sgn", Function::Sign, 1, 1),
    entry("average", Function::Mean, 1, ANY),
];

impl Entry {
    fn takes(&self) -> &'static str {
        match (self.least, self.most) {
            (1, 1) => "one argument",
            (1, 2) => "one or two arguments",
            (2, 2) => "two arguments",
            _ => "at least one argument",
        }
    }
}

impl Function {
    /// Whether it looks for common divisors even of whole numbers.
    const fn reduces(self) -> bool {
        matches!(self, Self::Divide | Self::Modulo | Self::Mean | Self::Gcd | Self::Lcm)
    }

    /// The result for `operands`, of which there are as many as the parser allowed.
    fn apply(self, operands: &[Number]) -> Result<Number, CalculatorError> {
        let a = operands.first().ok_or(CalculatorError::Empty)?;
        let b = operands.get(1);
        let second = b.unwrap_or(a);
        let float = |function: fn(f64) -> f64| Ok(Number::Float(function(a.float())));
        match self {
            Self::Negate => Ok(a.negated()),
            Self::Add => Ok(a.plus(second)),
            Self::Subtract => Ok(a.plus(&second.negated())),
            Self::AddPart => a.times(&Number::from(1).plus(second)),
            Self::SubtractPart => a.times(&Number::from(1).plus(&second.negated())),
            Self::Multiply => a.times(second),
            Self::Divide => a.over(second),
            Self::Modulo => a.modulo(second),
            Self::Power => a.power(second),
            Self::Percent => a.over(&Number::from(100)),
            Self::Factorial => a.factorial(),
            Self::Abs => Ok(if a.is_negative() { a.negated() } else { a.clone() }),
            Self::Sign => {
                let sign = Number::from(u32::from(!a.is_zero()));
                Ok(if a.is_negative() { sign.negated() } else { sign })
            }
            Self::Floor => a.rounded(Rounding::Down, None),
            Self::Ceil => a.negated().rounded(Rounding::Down, None).map(|n| n.negated()),
            Self::Trunc => a.rounded(Rounding::TowardsZero, None),
            Self::Round => a.rounded(Rounding::Nearest, b),
            Self::Sqrt => a.root(&Number::from(2)),
            Self::Cbrt => a.root(&Number::from(3)),
            Self::Root => a.root(second),
            Self::Exp => float(f64::exp),
            Self::Ln => Ok(Number::Float(a.log2()? * std::f64::consts::LN_2)),
            Self::Log2 => a.logarithm(&Number::from(2)),
            Self::Log10 => a.logarithm(&Number::from(10)),
            Self::Log => match b {
                Some(base) => a.logarithm(base),
                None => a.logarithm(&Number::from(10)),
            },
            Self::Sin => Ok(trigonometric(f64::sin, a.float())),
            Self::Cos => Ok(trigonometric(f64::cos, a.float())),
            Self::Tan if trigonometric(f64::cos, a.float()).is_zero() => {
                Err(CalculatorError::NotReal)
            }
            Self::Tan => Ok(trigonometric(f64::tan, a.float())),
            Self::Asin => float(f64::asin),
            Self::Acos => float(f64::acos),
            Self::Atan => float(f64::atan),
            Self::Atan2 => Ok(Number::Float(a.float().atan2(second.float()))),
            Self::Sinh => float(f64::sinh),
            Self::Cosh => float(f64::cosh),
            Self::Tanh => float(f64::tanh),
            Self::Deg => float(f64::to_degrees),
            Self::Rad => float(f64::to_radians),
            Self::Hypot => match (a, second) {
                (Number::Exact(_), Number::Exact(_)) => {
                    let squares = a.times(a)?.plus(&second.times(second)?);
                    squares.root(&Number::from(2))
                }
                _ => Ok(Number::Float(a.float().hypot(second.float()))),
            },
            Self::Min => Ok(pick(operands, Ordering::Less)),
            Self::Max => Ok(pick(operands, Ordering::Greater)),
            Self::Sum => sum(operands),
            Self::Mean => {
                let count = u32::try_from(operands.len()).map_err(|_| CalculatorError::TooLarge)?;
                sum(operands)?.over(&Number::from(count))
            }
            Self::Gcd => fold_whole(operands, |a, b| Ok(a.gcd(b))),
            Self::Lcm => fold_whole(operands, |a, b| {
                if a.is_zero() || b.is_zero() {
                    return Ok(Natural::default());
                }
                a.divide(&a.gcd(b)).0.bounded_times(b)
            }),
        }
    }
}

/// `function` of an angle. What is smaller than the rounding error that the angle carries is zero, so that sin(pi) is
/// 0; not for large angles, whose error would swallow true results.
fn trigonometric(function: fn(f64) -> f64, angle: f64) -> Number {
    const LARGE: f64 = 1e6;
    let value = function(angle);
    let is_noise = angle.abs() < LARGE && value.abs() < angle.abs() * f64::EPSILON;
    Number::Float(if is_noise { 0.0 } else { value })
}

/// The operand that comes first in the `wanted` order, the first of equals.
fn pick(operands: &[Number], wanted: Ordering) -> Number {
    let mut best = &operands[0];
    for operand in operands {
        if operand.compare(best) == wanted {
            best = operand;
        }
    }
    best.clone()
}

fn sum(operands: &[Number]) -> Result<Number, CalculatorError> {
    operands.iter().try_fold(Number::from(0), |total, n| total.plus(n).checked())
}

fn fold_whole(
    operands: &[Number],
    step: fn(&Natural, &Natural) -> Result<Natural, CalculatorError>,
) -> Result<Number, CalculatorError> {
    const RULE: CalculatorError =
        CalculatorError::NotWhole { rule: "gcd and lcm need whole numbers" };
    let mut total: Option<Natural> = None;
    for operand in operands {
        let whole = operand.whole().ok_or(RULE)?;
        total = Some(match total {
            None => whole.clone(),
            Some(total) => step(&total, whole)?,
        });
    }
    Ok(Number::Exact(Ratio::whole(total.unwrap_or_default())))
}

#[derive(Clone, Copy)]
enum Rounding {
    Down,
    TowardsZero,
    /// Halves away from zero.
    Nearest,
}

/// A rational, or what a function made in double precision.
#[derive(Clone, Debug)]
enum Number {
    Exact(Ratio),
    Float(f64),
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::Exact(Ratio::whole(Natural::from(value)))
    }
}

impl Number {
    fn float(&self) -> f64 {
        match self {
            Self::Exact(ratio) => ratio.float(),
            Self::Float(value) => *value,
        }
    }

    /// The number itself if it is within the bounds of its kind.
    fn checked(self) -> Result<Self, CalculatorError> {
        match self {
            Self::Exact(ref ratio) if !ratio.is_bounded() => Err(CalculatorError::TooLarge),
            Self::Float(value) if value.is_nan() => Err(CalculatorError::NotReal),
            Self::Float(value) if value.is_infinite() => Err(CalculatorError::OutOfRange),
            Self::Exact(_) | Self::Float(_) => Ok(self),
        }
    }

    fn limbs(&self) -> usize {
        match self {
            Self::Exact(ratio) => ratio.limbs(),
            Self::Float(_) => 2,
        }
    }

    fn is_zero(&self) -> bool {
        match self {
            Self::Exact(ratio) => ratio.num.is_zero(),
            Self::Float(value) => *value == 0.0,
        }
    }

    fn is_negative(&self) -> bool {
        match self {
            Self::Exact(ratio) => ratio.negative,
            Self::Float(value) => *value < 0.0,
        }
    }

    /// The amount of an exact whole number, without its sign.
    fn whole(&self) -> Option<&Natural> {
        match self {
            Self::Exact(ratio) if ratio.den.is_one() => Some(&ratio.num),
            Self::Exact(_) | Self::Float(_) => None,
        }
    }

    fn negated(&self) -> Self {
        match self {
            Self::Exact(ratio) => Self::Exact(ratio.clone().signed(!ratio.negative)),
            Self::Float(value) => Self::Float(-value),
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a.compare(b),
            _ => self.float().total_cmp(&other.float()),
        }
    }

    /// The sum, to be checked.
    fn plus(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => Self::Exact(a.plus(b)),
            _ => Self::Float(self.float() + other.float()),
        }
    }

    fn times(&self, other: &Self) -> Result<Self, CalculatorError> {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a.times(b).map(Self::Exact),
            _ => Self::Float(self.float() * other.float()).checked(),
        }
    }

    fn over(&self, other: &Self) -> Result<Self, CalculatorError> {
        if other.is_zero() {
            return Err(CalculatorError::DivisionByZero);
        }
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a.times(&b.inverse()).map(Self::Exact),
            _ => Self::Float(self.float() / other.float()).checked(),
        }
    }

    fn modulo(&self, other: &Self) -> Result<Self, CalculatorError> {
        let quotient = self.over(other)?;
        if let Self::Exact(_) = quotient {
            let part = quotient.rounded(Rounding::Down, None)?.times(other)?;
            return Ok(self.plus(&part.negated()));
        }
        let (value, divisor) = (self.float(), other.float());
        let rest = value % divisor;
        let misses = rest != 0.0 && (rest < 0.0) != (divisor < 0.0);
        Ok(Self::Float(if misses { rest + divisor } else { rest }))
    }

    fn power(&self, exponent: &Self) -> Result<Self, CalculatorError> {
        if self.is_zero() && exponent.is_negative() {
            return Err(CalculatorError::DivisionByZero);
        }
        if let (Self::Exact(base), Self::Exact(exponent)) = (self, exponent) {
            if exponent.den.is_one() {
                return base.power(exponent).map(Self::Exact);
            }
            if let Some(root) = base.exact_root(&exponent.den) {
                let whole = Ratio::whole(exponent.num.clone()).signed(exponent.negative);
                return root.power(&whole).map(Self::Exact);
            }
        }
        Ok(Self::Float(self.float().powf(exponent.float())))
    }

    fn root(&self, degree: &Self) -> Result<Self, CalculatorError> {
        let Some(whole) = degree.whole() else {
            return self.power(&Self::from(1).over(degree)?);
        };
        if whole.is_zero() {
            return Err(CalculatorError::DivisionByZero);
        }
        if degree.is_negative() {
            return Self::from(1).over(&self.root(&degree.negated())?);
        }
        if self.is_negative() {
            return if whole.is_even() {
                Err(CalculatorError::NotReal)
            } else {
                Ok(self.negated().root(degree)?.negated())
            };
        }
        if let Self::Exact(ratio) = self
            && let Some(root) = ratio.exact_root(whole)
        {
            return Ok(Self::Exact(root));
        }
        let (mut value, mut places) = (self.float(), 0);
        if let Self::Exact(ratio) = self
            && !value.is_normal()
        {
            (value, places) = ratio.without_powers(degree.float());
        }
        let root = match whole.small() {
            Some(2) => value.sqrt(),
            Some(3) => value.cbrt(),
            _ => value.powf(degree.float().recip()),
        };
        Ok(Self::Float(root * f64::from(places).exp2()))
    }

    fn log2(&self) -> Result<f64, CalculatorError> {
        if self.is_zero() || self.is_negative() {
            return Err(CalculatorError::NotReal);
        }
        let value = self.float();
        Ok(match self {
            Self::Exact(ratio) if !value.is_normal() => ratio.log2(),
            Self::Exact(_) | Self::Float(_) => value.log2(),
        })
    }

    /// The logarithm to `base`, exact where that is a whole number.
    fn logarithm(&self, base: &Self) -> Result<Self, CalculatorError> {
        let estimate = Self::Float(self.log2()?).over(&Self::Float(base.log2()?))?;
        if let (Self::Exact(value), Self::Exact(base)) = (self, base) {
            let nearest = whole_part(estimate.float().round());
            let whole = Ratio::whole(nearest.unsigned_abs().into()).signed(nearest < 0);
            if base.power(&whole).is_ok_and(|power| power.compare(value) == Ordering::Equal) {
                return Ok(Self::Exact(whole));
            }
        }
        Ok(estimate)
    }

    /// This number to so many decimal places, exact unless it is beyond what double precision tells apart.
    fn rounded(&self, how: Rounding, places: Option<&Self>) -> Result<Self, CalculatorError> {
        const RULE: CalculatorError =
            CalculatorError::NotWhole { rule: "round needs a whole number of digits" };
        let ratio = match self {
            Self::Exact(ratio) => ratio.clone(),
            Self::Float(value) if value.abs() < power_of_two(53) => Ratio::from_float(*value),
            Self::Float(_) => return Ok(self.clone()),
        };
        let scale = match places {
            Some(places) => {
                let whole = places.whole().ok_or(RULE)?;
                let places = Ratio::whole(whole.clone()).signed(places.is_negative());
                Ratio::whole(Natural::from(10)).power(&places)?
            }
            None => Ratio::whole(Natural::from(1)),
        };
        let scaled = ratio.times(&scale)?;
        let (mut whole, rest) = scaled.num.divide(&scaled.den);
        let up = match how {
            Rounding::Down => scaled.negative && !rest.is_zero(),
            Rounding::TowardsZero => false,
            Rounding::Nearest => rest.plus(&rest).compare(&scaled.den) != Ordering::Less,
        };
        if up {
            whole = whole.plus(&Natural::from(1));
        }
        Ratio::whole(whole).signed(scaled.negative).times(&scale.inverse()).map(Self::Exact)
    }

    fn factorial(&self) -> Result<Self, CalculatorError> {
        const RULE: CalculatorError = CalculatorError::NotWhole {
            rule: "factorial needs a whole number that is not negative",
        };
        let whole = self.whole().filter(|_| !self.is_negative()).ok_or(RULE)?;
        let last = whole.small().ok_or(CalculatorError::TooLarge)?;
        let mut product = Natural::from(1);
        // Ends by the bound on its size long before a large `last` is reached.
        for factor in 2..=last {
            product.scale_and_add(factor, 0);
            if product.bits() > BITS {
                return Err(CalculatorError::TooLarge);
            }
        }
        Ok(Self::Exact(Ratio::whole(product)))
    }
}

/// A fraction in lowest terms; the denominator is not zero, and zero is not negative.
#[derive(Clone, Debug)]
struct Ratio {
    negative: bool,
    num: Natural,
    den: Natural,
}

impl Ratio {
    fn whole(num: Natural) -> Self {
        Self { negative: false, num, den: Natural::from(1) }
    }

    fn reduced(negative: bool, num: &Natural, den: &Natural) -> Self {
        let common = num.gcd(den);
        Self { negative: false, num: num.divide(&common).0, den: den.divide(&common).0 }
            .signed(negative)
    }

    /// The very value of a finite double.
    fn from_float(value: f64) -> Self {
        const FRACTION_BITS: u32 = 52;
        /// What the exponent field holds for a whole number of 53 bits.
        const WHOLE: usize = 1075;
        let bits = value.abs().to_bits();
        let fraction = bits & ((1 << FRACTION_BITS) - 1);
        let exponent = usize::try_from(bits >> FRACTION_BITS).unwrap_or(0);
        let mantissa = if exponent == 0 { fraction } else { fraction | 1 << FRACTION_BITS };
        let exponent = exponent.max(1);
        let num = Natural::wide(mantissa).shifted_left(exponent.saturating_sub(WHOLE));
        let den = Natural::from(1).shifted_left(WHOLE.saturating_sub(exponent));
        Self::reduced(value < 0.0, &num, &den)
    }

    fn signed(self, negative: bool) -> Self {
        Self { negative: negative && !self.num.is_zero(), ..self }
    }

    fn is_bounded(&self) -> bool {
        self.num.bits() <= BITS && self.den.bits() <= BITS
    }

    fn limbs(&self) -> usize {
        self.num.limbs.len() + self.den.limbs.len()
    }

    fn inverse(&self) -> Self {
        Self { negative: self.negative, num: self.den.clone(), den: self.num.clone() }
    }

    /// Knuth, volume 2, 4.5.1: smaller divisors to look for than after adding over the common denominator.
    fn plus(&self, other: &Self) -> Self {
        if self.den.is_one() && other.den.is_one() && self.negative == other.negative {
            return Self::whole(self.num.plus(&other.num)).signed(self.negative);
        }
        let common = self.den.gcd(&other.den);
        let own = self.den.divide(&common).0;
        let theirs = other.den.divide(&common).0;
        let (left, right) = (self.num.times(&theirs), other.num.times(&own));
        let (negative, num) = if self.negative == other.negative {
            (self.negative, left.plus(&right))
        } else if left.compare(&right) == Ordering::Less {
            (other.negative, right.minus(&left))
        } else {
            (self.negative, left.minus(&right))
        };
        let shared = num.gcd(&common);
        let den = own.times(&other.den.divide(&shared).0);
        Self { negative: false, num: num.divide(&shared).0, den }.signed(negative)
    }

    fn times(&self, other: &Self) -> Result<Self, CalculatorError> {
        if self.den.is_one() && other.den.is_one() {
            let num = self.num.bounded_times(&other.num)?;
            return Ok(Self::whole(num).signed(self.negative != other.negative));
        }
        let left = self.num.gcd(&other.den);
        let right = other.num.gcd(&self.den);
        let num = self.num.divide(&left).0.bounded_times(&other.num.divide(&right).0)?;
        let den = self.den.divide(&right).0.bounded_times(&other.den.divide(&left).0)?;
        Ok(Self { negative: false, num, den }.signed(self.negative != other.negative))
    }

    /// This number to a whole `exponent`, which is not negative if this is zero.
    fn power(&self, exponent: &Self) -> Result<Self, CalculatorError> {
        let negative = self.negative && !exponent.num.is_even();
        if self.num.is_one() && self.den.is_one() {
            return Ok(Self::whole(Natural::from(1)).signed(negative));
        }
        if self.num.is_zero() {
            return Ok(Self::whole(Natural::from(u32::from(exponent.num.is_zero()))));
        }
        let times = exponent.num.small().ok_or(CalculatorError::TooLarge)?;
        let raise = |n: &Natural| n.power(times.into()).ok_or(CalculatorError::TooLarge);
        let power = Self { negative, num: raise(&self.num)?, den: raise(&self.den)? };
        Ok(if exponent.negative { power.inverse() } else { power })
    }

    /// The root if it is rational, this number not negative and the degree no more than 64.
    fn exact_root(&self, degree: &Natural) -> Option<Self> {
        let degree = degree.small().filter(|d| !self.negative && (1..=EXACT_ROOT).contains(d))?;
        let (num, den) = (self.num.root(degree)?, self.den.root(degree)?);
        Some(Self { negative: false, num, den })
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (negative, _) => {
                let (left, right) = (self.num.times(&other.den), other.num.times(&self.den));
                if negative { right.compare(&left) } else { left.compare(&right) }
            }
        }
    }

    /// The logarithm of the amount, for numbers of any size.
    fn log2(&self) -> f64 {
        self.num.log2() - self.den.log2()
    }

    /// This number as a double times two to the power of `degree` and the second of the pair, which keeps a double's
    /// precision for the root of a number beyond its range.
    fn without_powers(&self, degree: f64) -> (f64, i32) {
        let places = (self.log2() / degree).trunc();
        let shift = whole_part(places * degree);
        let left = |n: &Natural, by: i32| n.shifted_left(by.max(0).unsigned_abs() as usize);
        let (num, den) = (left(&self.num, -shift), left(&self.den, shift));
        (Self { negative: self.negative, num, den }.float(), whole_part(places))
    }

    /// The nearest double.
    fn float(&self) -> f64 {
        // The quotient gets 63 or 64 bits, the last of which stands for all that follow.
        let (num_bits, den_bits) = (self.num.bits(), self.den.bits() + 63);
        let num = self.num.shifted_left(den_bits.saturating_sub(num_bits));
        let den = self.den.shifted_left(num_bits.saturating_sub(den_bits));
        let (quotient, rest) = num.divide(&den);
        let (mantissa, _) = quotient.leading();
        let amount = approximate(mantissa | u64::from(!rest.is_zero()));
        let exponent = i32::try_from(num_bits).unwrap_or(0) - i32::try_from(den_bits).unwrap_or(0);
        // In two halves, because the power of a small number is no double itself.
        let half = exponent / 2;
        let amount = amount * power_of_two(half) * power_of_two(exponent - half);
        if self.negative { -amount } else { amount }
    }

    /// The amount as a decimal, if that needs no more than 30 fractional digits.
    fn decimal(&self) -> Option<String> {
        if self.den.is_one() {
            return Some(self.num.decimal());
        }
        let scale = Natural::from(10).raised(FRACTION_DIGITS as u64);
        let (factor, rest) = scale.divide(&self.den);
        if !rest.is_zero() {
            return None;
        }
        let digits = self.num.times(&factor).decimal();
        let digits = format!("{digits:0>width$}", width = FRACTION_DIGITS + 1);
        let (whole, fraction) = digits.split_at(digits.len() - FRACTION_DIGITS);
        let fraction = fraction.trim_end_matches('0');
        Some(if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") })
    }

    /// The amount to 15 significant digits.
    fn rounded(&self) -> String {
        if self.num.is_zero() {
            return "0".to_owned();
        }
        let power = |n: i32| Natural::from(10).raised(n.max(0).unsigned_abs().into());
        let decimals = self.log2() * std::f64::consts::LOG10_2;
        let mut exponent = whole_part(decimals.floor());
        // The estimate may be one off next to a power of ten, and rounding may carry into a further digit.
        loop {
            let places = i32::from(SIGNIFICANT) - 1 - exponent;
            let num = self.num.times(&power(places));
            let den = self.den.times(&power(-places));
            let digits = num.plus(&num).plus(&den).divide(&den.plus(&den)).0.decimal();
            match digits.len().cmp(&usize::from(SIGNIFICANT)) {
                Ordering::Equal => return layout(&digits, exponent),
                Ordering::Greater => exponent += 1,
                Ordering::Less => exponent -= 1,
            }
        }
    }
}

/// A number from its decimal digits, the first of which is not zero and stands at ten to the `exponent`.
fn layout(digits: &str, exponent: i32) -> String {
    let digits = digits.trim_end_matches('0');
    let mut text = String::new();
    if !(-9..21).contains(&exponent) {
        let (first, others) = digits.split_at(1);
        let point = if others.is_empty() { "" } else { "." };
        let _ = write!(text, "{first}{point}{others}e{exponent}");
    } else if let Ok(last) = usize::try_from(exponent) {
        let whole = digits.len().min(last + 1);
        let _ = write!(text, "{:0<width$}", &digits[..whole], width = last + 1);
        if digits.len() > whole {
            let _ = write!(text, ".{}", &digits[whole..]);
        }
    } else {
        let zeros = exponent.unsigned_abs() as usize - 1;
        let _ = write!(text, "0.{:0<zeros$}{digits}", "");
    }
    text
}

/// The double next to `value`.
#[expect(clippy::cast_precision_loss, reason = "the rounding is what is asked for")]
fn approximate(value: u64) -> f64 {
    value as f64
}

/// `value`, which has no fraction and comes from an estimate, as an integer.
#[expect(clippy::cast_possible_truncation, reason = "logarithms of bounded numbers are small")]
fn whole_part(value: f64) -> i32 {
    value as i32
}

/// Two to the `exponent`, as far as normal doubles go.
fn power_of_two(exponent: i32) -> f64 {
    let biased = exponent.clamp(-1022, 1023) + 1023;
    f64::from_bits(u64::from(biased.unsigned_abs()) << 52)
}

/// The lower limb of a double one.
#[expect(clippy::cast_possible_truncation, reason = "the upper limb is the carry, taken elsewhere")]
const fn low(value: u64) -> u32 {
    value as u32
}

/// Up to two limbs need no allocation.
type Limbs = SmallVec<[u32; 2]>;

/// A whole number that is not negative: limbs of 32 bits, lowest first, the last one not zero.
///
/// Short and plain instead of fast: numbers here have a few hundred limbs at most.
#[derive(Clone, Debug, Default)]
struct Natural {
    limbs: Limbs,
}

impl From<u32> for Natural {
    fn from(value: u32) -> Self {
        Self { limbs: smallvec![value] }.trimmed()
    }
}

impl Natural {
    fn wide(value: u64) -> Self {
        Self { limbs: smallvec![low(value), low(value >> 32)] }.trimmed()
    }

    fn trimmed(mut self) -> Self {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
        self
    }

    fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    fn is_one(&self) -> bool {
        self.limbs[..] == [1]
    }

    fn is_even(&self) -> bool {
        self.limbs.first().is_none_or(|limb| limb & 1 == 0)
    }

    /// The value if it fits one limb.
    fn small(&self) -> Option<u32> {
        match self.limbs[..] {
            [] => Some(0),
            [limb] => Some(limb),
            _ => None,
        }
    }

    fn bits(&self) -> usize {
        let unused = self.limbs.last().map_or(0, |limb| limb.leading_zeros() as usize);
        self.limbs.len() * 32 - unused
    }

    /// The 64 highest bits, or the value if it has fewer, and how many bits follow.
    fn leading(&self) -> (u64, usize) {
        let below = self.bits().saturating_sub(64);
        let top = self.shifted_right(below);
        let limb = |at: usize| top.limbs.get(at).copied().map_or(0, u64::from);
        (limb(1) << 32 | limb(0), below)
    }

    fn log2(&self) -> f64 {
        let (top, below) = self.leading();
        approximate(top).log2() + approximate(below as u64)
    }

    fn compare(&self, other: &Self) -> Ordering {
        let sizes = self.limbs.len().cmp(&other.limbs.len());
        sizes.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()))
    }

    fn plus(&self, other: &Self) -> Self {
        let (long, short) =
            if self.limbs.len() < other.limbs.len() { (other, self) } else { (self, other) };
        let mut limbs = Limbs::with_capacity(long.limbs.len() + 1);
        let mut carry = 0;
        for (at, limb) in long.limbs.iter().enumerate() {
            carry += u64::from(*limb) + short.limbs.get(at).copied().map_or(0, u64::from);
            limbs.push(low(carry));
            carry >>= 32;
        }
        limbs.push(low(carry));
        Self { limbs }.trimmed()
    }

    /// The difference to an `other` that is not larger.
    fn minus(&self, other: &Self) -> Self {
        let mut limbs = Limbs::with_capacity(self.limbs.len());
        let mut borrow = false;
        for (at, limb) in self.limbs.iter().enumerate() {
            let (part, first) = limb.overflowing_sub(other.limbs.get(at).copied().unwrap_or(0));
            let (part, second) = part.overflowing_sub(u32::from(borrow));
            borrow = first || second;
            limbs.push(part);
        }
        Self { limbs }.trimmed()
    }

    fn times(&self, other: &Self) -> Self {
        let mut limbs = smallvec![0; self.limbs.len() + other.limbs.len()];
        for (at, a) in self.limbs.iter().enumerate() {
            let mut carry = 0;
            for (limb, b) in limbs[at..].iter_mut().zip(&other.limbs) {
                carry += u64::from(*a) * u64::from(*b) + u64::from(*limb);
                *limb = low(carry);
                carry >>= 32;
            }
            limbs[at + other.limbs.len()] = low(carry);
        }
        Self { limbs }.trimmed()
    }

    fn bounded_times(&self, other: &Self) -> Result<Self, CalculatorError> {
        if self.bits() + other.bits() > BITS + 1 {
            return Err(CalculatorError::TooLarge);
        }
        Ok(self.times(other))
    }

    /// Multiplies by `factor`, then adds `summand`.
    fn scale_and_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for limb in &mut self.limbs {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = low(carry);
            carry >>= 32;
        }
        if carry > 0 {
            self.limbs.push(low(carry));
        }
    }

    fn shifted_left(&self, bits: usize) -> Self {
        let mut limbs = smallvec![0; bits / 32];
        let mut carry = 0;
        for limb in &self.limbs {
            carry |= u64::from(*limb) << (bits % 32);
            limbs.push(low(carry));
            carry >>= 32;
        }
        limbs.push(low(carry));
        Self { limbs }.trimmed()
    }

    fn shifted_right(&self, bits: usize) -> Self {
        let whole = self.limbs.get(bits / 32..).unwrap_or_default();
        let mut limbs = Limbs::with_capacity(whole.len());
        for (at, limb) in whole.iter().enumerate() {
            let above = whole.get(at + 1).copied().map_or(0, u64::from);
            limbs.push(low((above << 32 | u64::from(*limb)) >> (bits % 32)));
        }
        Self { limbs }.trimmed()
    }

    /// Divides by a single limb in place and leaves the remainder.
    fn divide_small(&mut self, by: u32) -> u32 {
        let mut rest = 0;
        for limb in self.limbs.iter_mut().rev() {
            let part = rest << 32 | u64::from(*limb);
            *limb = low(part / u64::from(by));
            rest = part % u64::from(by);
        }
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
        low(rest)
    }

    /// Quotient and remainder by a number that is not zero: Knuth, volume 2, 4.3.1, algorithm D.
    fn divide(&self, by: &Self) -> (Self, Self) {
        if self.compare(by) == Ordering::Less || by.is_zero() {
            return (Self::default(), self.clone());
        }
        if let [limb] = by.limbs[..] {
            let mut quotient = self.clone();
            let rest = quotient.divide_small(limb);
            return (quotient, Self::from(rest));
        }
        let size = by.limbs.len();
        // The highest bit of the divisor is set, so that its first limb estimates a quotient limb well.
        let shift = size * 32 - by.bits();
        let divisor = by.shifted_left(shift).limbs;
        let mut rest = self.shifted_left(shift).limbs;
        rest.resize(self.limbs.len() + 1, 0);
        let (first, second) = (u64::from(divisor[size - 1]), u64::from(divisor[size - 2]));
        let mut quotient = smallvec![0; rest.len() - size];
        for at in (0..quotient.len()).rev() {
            let top = u64::from(rest[at + size]) << 32 | u64::from(rest[at + size - 1]);
            let (mut digit, mut over) = (top / first, top % first);
            let next = u64::from(rest[at + size - 2]);
            while digit >> 32 > 0 || digit * second > (over << 32 | next) {
                digit -= 1;
                over += first;
                if over >> 32 > 0 {
                    break;
                }
            }
            let window = &mut rest[at..=at + size];
            if subtract_multiple(window, &divisor, digit) {
                digit -= 1;
                add_back(window, &divisor);
            }
            quotient[at] = low(digit);
        }
        (Self { limbs: quotient }.trimmed(), Self { limbs: rest }.trimmed().shifted_right(shift))
    }

    /// The greatest common divisor; that of a number and zero is the number.
    fn gcd(&self, other: &Self) -> Self {
        if self.is_one() || other.is_one() {
            return Self::from(1);
        }
        let (mut a, mut b) = (self.clone(), other.clone());
        while !b.is_zero() {
            let rest = a.divide(&b).1;
            a = b;
            b = rest;
        }
        a
    }

    /// This number to a power that the caller has bounded.
    fn raised(&self, exponent: u64) -> Self {
        let mut power = Self::from(1);
        for bit in (0..u64::BITS - exponent.leading_zeros()).rev() {
            power = power.times(&power);
            if exponent >> bit & 1 == 1 {
                power = power.times(self);
            }
        }
        power
    }

    /// This number to a power, if that is within the bounds.
    fn power(&self, exponent: u64) -> Option<Self> {
        if exponent == 0 || self.is_one() {
            return Some(Self::from(1));
        }
        // Half a bit of tolerance for the logarithm; results are checked to the bit afterwards.
        let fits =
            self.is_zero() || self.log2() * approximate(exponent) < approximate(BITS as u64) + 0.5;
        fits.then(|| self.raised(exponent))
    }

    /// The root of a degree that is not zero, if it is whole.
    fn root(&self, degree: u32) -> Option<Self> {
        if self.is_zero() || self.is_one() || degree == 1 {
            return Some(self.clone());
        }
        let log2 = self.log2() / f64::from(degree);
        // A little above the root by its first 50 bits: Newton's method comes down from there in a few steps.
        let places = log2.floor();
        let amount = (log2 - places).exp2() * (1.0 + 1e-10) * power_of_two(50);
        let amount = Ratio::from_float(amount.ceil()).num;
        let places = usize::try_from(whole_part(places)).ok()?;
        let mut root = amount.shifted_left(places).shifted_right(50).plus(&Self::from(1));
        loop {
            let power = root.raised(u64::from(degree) - 1);
            let quotient = self.divide(&power).0;
            if quotient.compare(&root) != Ordering::Less {
                let is_root = power.times(&root).compare(self) == Ordering::Equal;
                return is_root.then_some(root);
            }
            root.scale_and_add(degree - 1, 0);
            root = root.plus(&quotient);
            root.divide_small(degree);
        }
    }

    fn decimal(&self) -> String {
        const CHUNK: u32 = 1_000_000_000;
        if let Some(small) = self.small() {
            return small.to_string();
        }
        let mut chunks = Vec::new();
        let mut rest = self.clone();
        while !rest.is_zero() {
            chunks.push(rest.divide_small(CHUNK));
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            let _ = write!(text, "{chunk:09}");
        }
        text
    }
}

/// Subtracts `digit` times `divisor` from `window`, which is one limb longer; whether that went below zero.
fn subtract_multiple(window: &mut [u32], divisor: &[u32], digit: u64) -> bool {
    let (mut carry, mut borrow) = (0, false);
    for (at, limb) in window.iter_mut().enumerate() {
        carry += digit * divisor.get(at).copied().map_or(0, u64::from);
        let (part, first) = limb.overflowing_sub(low(carry));
        let (part, second) = part.overflowing_sub(u32::from(borrow));
        carry >>= 32;
        borrow = first || second;
        *limb = part;
    }
    borrow
}

/// Adds `divisor` to `window`, undoing one subtraction too many.
fn add_back(window: &mut [u32], divisor: &[u32]) {
    let mut carry = 0;
    for (at, limb) in window.iter_mut().enumerate() {
        carry += u64::from(*limb) + divisor.get(at).copied().map_or(0, u64::from);
        *limb = low(carry);
        carry >>= 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(message: &str) -> String {
        match Expression::parse(message).and_then(|e| e.evaluate()) {
            Ok(value) => value.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[track_caller]
    fn all(cases: &[(&str, &str)]) {
        for (message, expected) in cases {
            assert_eq!(result(message), *expected, "{message}");
        }
    }

    #[test]
    fn whole_messages_that_are_calculations_are_claimed() {
        for message in [
            "Calculate 25 * 4",
            "25*4",
            "what is 3 + 4?",
            "What  is 3 plus 4 ?",
            "compute sqrt(2)^2 =",
            "how much is 15% of 80?",
            "please calculate: 1 + 1.",
            "what\u{2019}s 2**10",
            "calculate(2+3)",
            "max(3, 4)",
            "what is 42",
            "calculate 2024-01-02",
            "Calculate 1e99999 + 1",
        ] {
            assert!(Expression::claim(message).is_some(), "{message}");
        }
    }

    #[test]
    fn other_messages_are_left_alone() {
        for message in [
            "",
            "?",
            "calculate",
            "calculate my taxes",
            "42",
            "-42",
            "50%",
            "5!",
            "pi",
            "e - e",
            "2024-01-02",
            "2024-11-12",
            "24/12/2025",
            "007 + 1",
            "hello there",
            "what is love?",
            "solve 2x + 1 = 3",
            "1 + 1 and then some",
            "recalculate 1+1",
            "calculated 1+1",
            "3 of 4",
            "10 x 4",
        ] {
            assert!(Expression::claim(message).is_none(), "{message}");
        }
    }

    #[test]
    fn a_chosen_skill_takes_bare_numbers() {
        all(&[("42", "42"), ("-5", "-5"), ("50%", "0.5"), ("007", "7"), ("2024-01-02", "2021")]);
    }

    #[test]
    fn operators_bind_as_documented() {
        all(&[
            ("2 + 3 * 4", "14"),
            ("(2 + 3) * 4", "20"),
            ("10 - 4 - 3", "3"),
            ("100 / 10 / 2", "5"),
            ("-2^2", "-4"),
            ("(-2)^2", "4"),
            ("2^3^2", "512"),
            ("2**-1", "0.5"),
            ("2^-3^2", "0.001953125"),
            ("--3", "3"),
            ("3!!", "720"),
            ("-3!", "-6"),
            ("2^3!", "64"),
            ("2(3+4)", "14"),
            ("(1+1)(2+2)", "8"),
            ("2 sqrt(16)", "8"),
            ("6/2(1+2)", "9"),
            ("6 \u{d7} 7 \u{f7} 2 \u{2212} 1", "20"),
            ("2 \u{b7} 3", "6"),
            ("6 times 7 plus 1 minus 3 divided by 2", "41.5"),
        ]);
    }

    #[test]
    fn percentages_are_of_what_stands_before_them() {
        all(&[
            ("15% of 80", "12"),
            ("15 percent of 80", "12"),
            ("15 % of 80 + 20", "32"),
            ("200 + 10%", "220"),
            ("200 - 10%", "180"),
            ("200 + (10%)", "200.1"),
            ("200 + 10% * 2", "200.2"),
            ("100 + 10% + 10%", "121"),
            ("10% + 5%", "0.15"),
            ("50 * 10%", "5"),
            ("10% - 3", "-2.9"),
            ("5%%", "0.0005"),
            ("4^50%", "2"),
        ]);
    }

    #[test]
    fn a_percent_sign_before_an_operand_is_modulo() {
        all(&[
            ("10 % 3", "1"),
            ("10%3", "1"),
            ("10 % (1 + 2)", "1"),
            ("10 mod 3", "1"),
            ("mod(10, 3)", "1"),
            ("-7 mod 3", "2"),
            ("7 mod -3", "-2"),
            ("7.5 mod 2", "1.5"),
            ("2 * 10 % 3", "2"),
            ("5 mod 0", "division by zero"),
        ]);
    }

    #[test]
    fn numbers_are_read_in_every_form() {
        all(&[
            ("1_000 + 1", "1001"),
            ("1,000,000 + 1", "1000001"),
            ("1,000.5", "1000.5"),
            ("max(1,000)", "1"),
            (".5", "0.5"),
            ("1.5e3", "1500"),
            ("2e+3", "2000"),
            ("1E-3", "0.001"),
            ("0xFF + 0b101 + 0o17", "275"),
            ("1,00", "expected an operator at character 2, found `,`"),
            ("1,0000", "expected an operator at character 2, found `,`"),
        ]);
    }

    #[test]
    fn rationals_stay_exact() {
        all(&[
            ("0.1 + 0.2", "0.3"),
            ("1/3*3", "1"),
            ("1/3 + 1/6", "0.5"),
            ("1/3 - 1/2 + 1/6", "0"),
            ("2^200", "1606938044258990275541962092341162602522202993782792835301376"),
            ("sqrt(144)", "12"),
            ("sqrt(2^2000) / 2^1000", "1"),
            ("sqrt(0.25)", "0.5"),
            ("8^(2/3)", "4"),
            ("cbrt(-27)", "-3"),
            ("root(2^640, 64)", "1024"),
            ("hypot(3, 4)", "5"),
            ("25! / 24!", "25"),
            ("avg(1, 2, 4) * 3", "7"),
            ("log(243, 3)", "5"),
            ("log10(1000) + log2(1/8)", "0"),
            ("floor(pi)! + gcd(12, 18) + lcm(4, 6)", "24"),
        ]);
    }

    #[test]
    fn functions_give_what_people_expect() {
        all(&[
            ("SQRT(2)", "1.4142135623731"),
            ("compute sqrt(2)^2 =", "2"),
            ("2pi", "6.28318530717959"),
            ("sin(pi)", "0"),
            ("sin(1000pi)", "0"),
            ("sin(10^22)", "-0.852200849767189"),
            ("sin(pi/6)", "0.5"),
            ("sin(rad(30))", "0.5"),
            ("cos(pi/2)", "0"),
            ("tan(pi/2)", "result is not a real number"),
            ("deg(pi)", "180"),
            ("atan2(1, 1) * 4", "3.14159265358979"),
            ("exp(1) - e", "0"),
            ("ln(e^2)", "2"),
            ("log(100)", "2"),
            ("log(500!)", "1134.08640853513"),
            ("sqrt(2*10^400) / 10^200", "1.4142135623731"),
            ("min(3, 1/2, pi)", "0.5"),
            ("max(3, 1/2, pi)", "3.14159265358979"),
            ("sum(1, 2, 3)", "6"),
            ("round(2.5) + round(-2.5)", "0"),
            ("round(2.675, 2)", "2.68"),
            ("round(pi, 2)", "3.14"),
            ("round(1234, -2)", "1200"),
            ("floor(-1.5)", "-2"),
            ("ceil(-1.5)", "-1"),
            ("ceil(1.2)", "2"),
            ("trunc(-1.5)", "-1"),
            ("sign(-3) + abs(-3)", "2"),
            ("cosh(0) + sinh(0) + tanh(0)", "1"),
            ("asin(2)", "result is not a real number"),
        ]);
    }

    #[test]
    fn results_are_written_plainly() {
        all(&[
            ("1/3", "0.333333333333333"),
            ("2/3", "0.666666666666667"),
            ("-200/3", "-66.6666666666667"),
            ("10^20/3", "33333333333333300000"),
            ("10^21/3", "333333333333333000000"),
            ("10^22/3", "3.33333333333333e21"),
            ("1/3/10^9", "3.33333333333333e-10"),
            ("1/3/10^8", "0.00000000333333333333333"),
            ("(10^15 - 1/3)/10^15", "1"),
            ("10^-30", "0.000000000000000000000000000001"),
            ("10^-31", "1e-31"),
            ("2^-40", "9.09494701772928e-13"),
            ("pi * 10^20", "314159265358979000000"),
            ("pi * 10^21", "3.14159265358979e21"),
            ("-0 * pi", "0"),
            ("pi - pi", "0"),
        ]);
    }

    #[test]
    fn only_unrounded_text_counts_as_exact() {
        let exact = |text| Expression::parse(text).unwrap().evaluate().unwrap().is_exact();
        assert!(exact("0.1") && exact("2^4000") && !exact("1/3") && !exact("pi"));
    }

    #[test]
    fn errors_name_the_place() {
        let names = "unknown name `foo` at character 11; functions are abs, sqrt, cbrt, ";
        assert!(result("Calculate foo(1)").starts_with(names));
        all(&[
            ("", "there is nothing to calculate"),
            ("Calculate ?", "there is nothing to calculate"),
            ("\u{d7}2", "expected a number at character 1, found `\u{d7}`"),
            ("2 +", "expected a number at character 4, found the end"),
            ("2 + * 3", "expected a number at character 5, found `*`"),
            ("2 3", "expected an operator at character 3, found `3`"),
            ("(2 + 3", "expected an operator or `)` at character 7, found the end"),
            ("sqrt 4", "expected `(` at character 6, found `4`"),
            ("max(1 2)", "expected an operator, `,` or `)` at character 7, found `2`"),
            ("pow(2)", "pow takes two arguments, at character 1"),
            ("1 + round(1,2,3)", "round takes one or two arguments, at character 5"),
            ("6 divided 3", "expected `by` at character 11, found `3`"),
            ("1/0", "division by zero"),
            ("0^-1", "division by zero"),
            ("1/sin(0)", "division by zero"),
            ("sqrt(-1)", "result is not a real number"),
            ("ln(0)", "result is not a real number"),
            ("(-8)^0.3", "result is not a real number"),
            ("exp(1000)", "result is out of range"),
            ("2.5!", "factorial needs a whole number that is not negative"),
            ("gcd(1.5, 2)", "gcd and lcm need whole numbers"),
        ]);
    }

    #[test]
    fn what_would_be_too_large_is_refused() {
        let digits = "9".repeat(4000);
        for message in [
            "2^10^9",
            "9^9^9^9",
            "10000!",
            "0.5^1000000",
            "1e999999999999999999999",
            "1e-5000",
            "2^4096",
            "2^4000 * 2^100",
            "1/3^2500 + 1/7^1400",
            "(2^32)!",
            digits.as_str(),
        ] {
            assert_eq!(result(message), CalculatorError::TooLarge.to_string(), "{message}");
        }
    }

    #[test]
    fn length_depth_operations_and_work_are_bounded() {
        let deep = |n| format!("{}1{}", "(".repeat(n), ")".repeat(n));
        assert_eq!(result(&deep(DEPTH)), "1");
        assert_eq!(
            Expression::parse(&deep(DEPTH + 1)).unwrap_err(),
            CalculatorError::TooDeep { at: 65 }
        );
        assert!(matches!(
            Expression::parse(&"2^".repeat(100)),
            Err(CalculatorError::TooDeep { .. })
        ));
        assert_eq!(result(&format!("1{}", "+1".repeat(OPERATIONS))), "257");
        assert!(matches!(
            Expression::parse(&format!("1{}", "+1".repeat(OPERATIONS + 1))),
            Err(CalculatorError::TooManyOperations { at: 516 })
        ));
        assert_eq!(result(&format!("sum({}1)", "1,".repeat(2000))), "2001");
        assert_eq!(Expression::parse(&" ".repeat(4097)).unwrap_err(), CalculatorError::TooLong);
        assert!(Expression::claim(&format!("1+1{}", " ".repeat(4096))).is_none());
        for heavy in [
            format!("0{}", "+2^3900/3^2400".repeat(60)),
            format!("0{}", "+2^4000/(3^2500-2)".repeat(40)),
            format!("0{}", "+gcd(2^4000-1,3^2500-2)".repeat(40)),
            format!("avg({}1)", "1/3^1200,1/7^600,".repeat(30)),
        ] {
            assert_eq!(result(&heavy), "calculation takes too much work");
        }
        assert_eq!(result(&format!("avg({}1.5)", "1.5,".repeat(1000))), "1.5");
    }

    /// A repeatable source of numbers.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn natural(&mut self) -> Natural {
            let size = self.next() % 12;
            // Limbs of all ones and all zeros are what division stumbles over.
            let limb = |r: u64| [0, 1, u32::MAX, 1 << 31, low(r >> 8)][(r % 5) as usize];
            Natural { limbs: (0..size).map(|_| limb(self.next())).collect() }.trimmed()
        }
    }

    #[test]
    fn long_arithmetic_keeps_its_laws() {
        for seed in 1..3000 {
            let mut random = Random(seed);
            let (a, b) = (random.natural(), random.natural());
            let equal = |x: &Natural, y: &Natural| x.compare(y) == Ordering::Equal;
            assert!(equal(&a.plus(&b).minus(&b), &a), "seed {seed}");
            if b.is_zero() {
                continue;
            }
            let (quotient, rest) = a.divide(&b);
            assert_eq!(rest.compare(&b), Ordering::Less, "seed {seed}");
            assert!(equal(&quotient.times(&b).plus(&rest), &a), "seed {seed}");
            let common = a.gcd(&b);
            assert!(a.divide(&common).1.is_zero() && b.divide(&common).1.is_zero(), "seed {seed}");
            let shift = (seed % 100) as usize;
            assert!(equal(&a.shifted_left(shift).shifted_right(shift), &a), "seed {seed}");
            assert!(equal(&b.raised(3).root(3).unwrap(), &b), "seed {seed}");
            assert!(b.is_one() || b.raised(2).plus(&Natural::from(1)).root(2).is_none());
            assert_eq!(
                a.decimal().parse::<u128>().ok().map(|n| n.to_string()),
                (a.bits() <= 128).then(|| a.decimal()),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn fractions_become_the_nearest_double() {
        for text in ["0.1", "1e23", "123456789.123456789", "5e-320", "1.7976931348623157e308", "3"]
        {
            let ratio = literal(text).unwrap();
            let expected: f64 = text.parse().unwrap();
            assert_eq!(ratio.float().to_bits(), expected.to_bits(), "{text}");
        }
    }

    #[test]
    fn no_message_panics() {
        const PARTS: [&str; 40] = [
            "1",
            "0",
            "9999",
            "1e400",
            "1e-1200",
            "1,000",
            "0x",
            "0b1",
            ".",
            "..5",
            "e",
            "pi",
            "(",
            ")",
            ",",
            "+",
            "-",
            "*",
            "/",
            "^",
            "**",
            "%",
            "!",
            " ",
            "sqrt(",
            "round(",
            "log(",
            "mod",
            "of",
            "percent",
            "divided",
            "by",
            "what is ",
            "=",
            "?",
            "\u{d7}",
            "\u{301}",
            "\u{1f600}",
            "2^4000",
            "1/3",
        ];
        for seed in 1..20_000 {
            let mut random = Random(seed);
            let length = random.next() % 12;
            let message: String =
                (0..length).map(|_| PARTS[(random.next() % 40) as usize]).collect();
            let claimed = Expression::claim(&message).is_some();
            let outcome = Expression::parse(&message);
            assert!(!claimed || outcome.is_ok(), "{message}");
            let text = match outcome.and_then(|expression| expression.evaluate()) {
                Ok(value) => value.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(!text.is_empty() && !text.contains("NaN"), "{message}");
        }
    }
}

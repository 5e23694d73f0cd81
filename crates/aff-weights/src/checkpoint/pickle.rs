//! A pickle machine that only ever makes data.
//!
//! A pickle is a program for a small stack machine that can call any Python function. This one builds a graph of plain
//! [`Node`]s instead: what would be a call becomes a [`Node::Object`] that remembers what would have been called with what.
//! Nothing is executed, imported or looked up.
//!
//! Nodes live in one vector and name each other by index, so that shared and cyclic values need no care, nothing recurses
//! (on parsing or on drop), and memory stays proportional to the input: texts and bytes are borrowed from it, every
//! instruction makes at most three nodes of 32 bytes and moves each stack entry into a container at most once.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::brief;

/// Values of a pickle in all; a published checkpoint with its optimiser has some ten thousand.
const MOST_VALUES: usize = 1 << 20;
/// Open marks; those of checkpoints nest a few deep.
const DEEPEST: usize = 1000;

/// Index of a node in its [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

/// A value of the pickle.
#[derive(Debug, PartialEq)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits; its value never matters here.
    BigInt,
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function: the texts that are its module and name.
    Global(Id, Id),
    /// A reference to something outside the pickle: a tensor's storage.
    Persistent(Id),
    /// What a call would have returned; boxed, since most nodes are smaller.
    Object(Box<Object>),
}

/// A call that was not made, and what would have been done to its result.
#[derive(Debug, PartialEq)]
pub(super) struct Object {
    pub(super) callable: Id,
    pub(super) arguments: Id,
    pub(super) state: Option<Id>,
    /// Entries set on it as on a dictionary.
    pub(super) items: Vec<(Id, Id)>,
}

/// A parsed pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
    /// Bytes of the input up to its end.
    length: usize,
}

/// Why a pickle could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the pickle: {problem}")]
pub struct PickleError {
    /// Where in the pickle.
    pub offset: usize,
    /// What is wrong there.
    pub problem: String,
}

impl<'a> Pickle<'a> {
    /// Parses the pickle that `input` starts with.
    pub(super) fn parse(input: &'a [u8]) -> Result<Self, PickleError> {
        Machine::new(input).run()
    }

    /// Bytes of the input that the pickle takes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    pub(super) fn str(&self, id: Id) -> Option<&'a str> {
        match self.node(id) {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes as such, or as `_codecs.encode(text, "latin1")`, which is how protocol 2 writes them.
    pub(super) fn bytes(&self, id: Id) -> Option<Cow<'a, [u8]>> {
        match self.node(id) {
            Node::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
            Node::Object(object) if self.callable(object)? == ("_codecs", "encode") => {
                let text = self.str(*self.sequence(object.arguments)?.first()?)?;
                text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<_>>().map(Cow::Owned)
            }
            _ => None,
        }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::List(items) | Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a dictionary, or of an object that is used as one (`OrderedDict`, `CfgNode`).
    pub(super) fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict(items) => Some(items),
            Node::Object(object) => Some(&object.items),
            _ => None,
        }
    }

    /// The last value that a dictionary was given for a key.
    pub(super) fn get(&self, id: Id, key: &str) -> Option<Id> {
        self.entries(id)?.iter().rev().find(|(k, _)| self.str(*k) == Some(key)).map(|&(_, value)| value)
    }

    /// Module and name of the callable of an object.
    pub(super) fn callable(&self, object: &Object) -> Option<(&'a str, &'a str)> {
        self.global(object.callable)
    }

    /// Module and name of a class or function.
    pub(super) fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match *self.node(id) {
            Node::Global(module, name) => self.str(module).zip(self.str(name)),
            _ => None,
        }
    }

    /// What a value is, for a message.
    pub(super) fn describe(&self, id: Id) -> String {
        match self.node(id) {
            Node::None => "nothing".to_owned(),
            Node::Bool(_) => "a truth value".to_owned(),
            Node::Int(_) | Node::BigInt | Node::Float(_) => "a number".to_owned(),
            Node::Str(_) => "a text".to_owned(),
            Node::Bytes(_) => "bytes".to_owned(),
            Node::List(_) | Node::Tuple(_) | Node::Set(_) => "a sequence".to_owned(),
            Node::Dict(_) => "a dictionary".to_owned(),
            Node::Global(..) => "a class or function".to_owned(),
            Node::Persistent(_) => "a storage".to_owned(),
            Node::Object(object) => match self.callable(object) {
                Some((module, name)) => format!("a call of {}.{}", brief(module), brief(name)),
                None => "a call of something unnamed".to_owned(),
            },
        }
    }
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at its open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    fn run(mut self) -> Result<Pickle<'a>, PickleError> {
        loop {
            let opcode = self.take(1)?[0];
            if opcode == b'.' {
                let root = self.pop()?;
                return Ok(Pickle { nodes: self.nodes, root, length: self.at });
            }
            self.step(opcode)?;
            if self.stack.len() > MOST_VALUES {
                return Err(self.too_many());
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b'\x80' => self.protocol(),
            b'\x95' => self.take(8).map(|_| ()),
            b'(' if self.marks.len() < DEEPEST => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'(' => Err(self.error(format!("values nest more than {DEEPEST} deep"))),
            b'0' => self.pop().map(|_| ()),
            b'1' => self.pop_mark().map(|_| ()),
            b'2' => self.pop().map(|top| self.stack.extend([top, top])),
            b'N' | b'\x88' | b'\x89' | b'K' | b'M' | b'J' | b'I' | b'L' | b'\x8a' | b'\x8b' | b'G' | b'F' => {
                self.number(opcode)
            }
            b'U' | b'T' | b'C' | b'B' | b'\x8e' | b'\x96' | b'X' | b'\x8c' | b'\x8d' | b'V' => {
                self.text(opcode)
            }
            b']' | b')' | b'}' | b'\x8f' | b'l' | b't' | b'd' | b'\x85' | b'\x86' | b'\x87' | b'\x91' => {
                self.container(opcode)
            }
            b'a' | b'e' | b's' | b'u' | b'\x90' => self.fill(opcode),
            b'q' | b'r' | b'\x94' | b'h' | b'j' | b'p' | b'g' => self.memo(opcode),
            b'c' | b'\x93' | b'R' | b'\x81' | b'\x92' | b'b' | b'Q' => self.call(opcode),
            other => Err(self.error(format!("instruction {other:#04x} is not one that checkpoints use"))),
        }
    }

    fn protocol(&mut self) -> Result<(), PickleError> {
        match self.take(1)?[0] {
            0..=5 => Ok(()),
            other => Err(self.error(format!("protocol {other}; expected 5 or less"))),
        }
    }

    fn number(&mut self, opcode: u8) -> Result<(), PickleError> {
        let node = match opcode {
            b'N' => Node::None,
            b'\x88' => Node::Bool(true),
            b'\x89' => Node::Bool(false),
            b'K' => Node::Int(i64::from(self.take(1)?[0])),
            b'M' => Node::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Node::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'\x8a' | b'\x8b' => {
                let length = if opcode == b'\x8a' { self.length(1)? } else { self.length(4)? };
                long(self.take(length)?)
            }
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            _ => self.decimal(opcode)?,
        };
        self.push(node)
    }

    /// The decimal numbers of protocol 0.
    fn decimal(&mut self, opcode: u8) -> Result<Node<'a>, PickleError> {
        let line = self.line()?;
        let number = line.strip_suffix('L').unwrap_or(line);
        let node = match (opcode, line) {
            (b'I', "00") => Some(Node::Bool(false)),
            (b'I', "01") => Some(Node::Bool(true)),
            (b'F', _) => line.parse().ok().map(Node::Float),
            _ => number.parse().ok().map(Node::Int),
        };
        node.ok_or_else(|| self.error(format!("{:?} is not a number", brief(line))))
    }

    fn text(&mut self, opcode: u8) -> Result<(), PickleError> {
        if opcode == b'V' {
            let line = self.line()?;
            return self.push(Node::Str(line));
        }
        let width = match opcode {
            b'U' | b'C' | b'\x8c' => 1,
            b'T' | b'B' | b'X' => 4,
            _ => 8,
        };
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        let node = match (opcode, std::str::from_utf8(bytes)) {
            // Python 2 strings are bytes.
            (b'C' | b'B' | b'\x8e' | b'\x96', _) | (b'U' | b'T', Err(_)) => Node::Bytes(bytes),
            (_, Ok(text)) => Node::Str(text),
            (_, Err(_)) => return Err(self.error("a text is not UTF-8")),
        };
        self.push(node)
    }

    fn container(&mut self, opcode: u8) -> Result<(), PickleError> {
        let node = match opcode {
            b']' => Node::List(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            b'\x8f' => Node::Set(Vec::new()),
            b'l' => Node::List(self.pop_mark()?),
            b't' => Node::Tuple(self.pop_mark()?),
            b'\x91' => Node::Set(self.pop_mark()?),
            b'd' => {
                let items = self.pop_mark()?;
                Node::Dict(self.pairs(&items)?)
            }
            _ => {
                let length = usize::from(opcode - 0x84);
                let Some(start) = self.stack.len().checked_sub(length) else {
                    return Err(self.error("the stack has too few values for a tuple"));
                };
                Node::Tuple(self.stack.split_off(start))
            }
        };
        self.push(node)
    }

    /// Puts values into the container below them.
    fn fill(&mut self, opcode: u8) -> Result<(), PickleError> {
        let values = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let Some(&target) = self.stack.last() else { return Err(self.error("no container on the stack")) };
        let pairs = if matches!(opcode, b's' | b'u') { self.pairs(&values)? } else { Vec::new() };
        match (&mut self.nodes[target.0 as usize], opcode) {
            (Node::Dict(items), b's' | b'u') => items.extend(pairs),
            (Node::Object(object), b's' | b'u') => object.items.extend(pairs),
            (Node::List(items), b'a' | b'e') | (Node::Set(items), b'\x90') => items.extend(values),
            // Appending to an object: a list's subclass, which never holds weights.
            (Node::Object(_), b'a' | b'e') => {}
            _ => return Err(self.error("values for something that is no container")),
        }
        Ok(())
    }

    fn pairs(&self, values: &[Id]) -> Result<Vec<(Id, Id)>, PickleError> {
        if !values.len().is_multiple_of(2) {
            return Err(self.error("a dictionary's key has no value"));
        }
        Ok(values.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    fn memo(&mut self, opcode: u8) -> Result<(), PickleError> {
        let index = match opcode {
            b'q' | b'h' => u32::from(self.take(1)?[0]),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            b'\x94' => self.memo.len() as u32,
            _ => {
                let line = self.line()?;
                line.parse().map_err(|_| self.error(format!("{:?} is no place of the memo", brief(line))))?
            }
        };
        if matches!(opcode, b'h' | b'j' | b'g') {
            let Some(&id) = self.memo.get(&index) else {
                return Err(self.error(format!("nothing was remembered at place {index}")));
            };
            self.stack.push(id);
            return Ok(());
        }
        let Some(&top) = self.stack.last() else { return Err(self.error("nothing to remember")) };
        self.memo.insert(index, top);
        if self.memo.len() > MOST_VALUES { Err(self.too_many()) } else { Ok(()) }
    }

    fn call(&mut self, opcode: u8) -> Result<(), PickleError> {
        let node = match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Node::Global(self.add(Node::Str(module))?, self.add(Node::Str(name))?)
            }
            b'\x93' => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.nodes[module.0 as usize], &self.nodes[name.0 as usize]) {
                    (Node::Str(_), Node::Str(_)) => Node::Global(module, name),
                    _ => return Err(self.error("a class without a name")),
                }
            }
            b'Q' => Node::Persistent(self.pop()?),
            b'b' => {
                let state = self.pop()?;
                let Some(&target) = self.stack.last() else { return Err(self.error("a state for nothing")) };
                if let Node::Object(object) = &mut self.nodes[target.0 as usize] {
                    object.state = Some(state);
                }
                return Ok(());
            }
            _ => {
                if opcode == b'\x92' {
                    self.pop()?; // keyword arguments
                }
                let (arguments, callable) = (self.pop()?, self.pop()?);
                Node::Object(Box::new(Object { callable, arguments, state: None, items: Vec::new() }))
            }
        };
        self.push(node)
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), PickleError> {
        let id = self.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// Makes a node that is not on the stack.
    fn add(&mut self, node: Node<'a>) -> Result<Id, PickleError> {
        let index = self.nodes.len();
        if index >= MOST_VALUES {
            return Err(self.too_many());
        }
        self.nodes.push(node);
        Ok(Id(index as u32))
    }

    fn too_many(&self) -> PickleError {
        self.error(format!("it has more than {MOST_VALUES} values; no published checkpoint has"))
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.error("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| self.error("the stack is empty"))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        match self.marks.pop() {
            Some(height) if height <= self.stack.len() => Ok(self.stack.split_off(height)),
            _ => Err(self.error("the stack has no mark")),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        match self.at.checked_add(length).and_then(|end| self.input.get(self.at..end)) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => Err(self.error(format!("ends where {length} more bytes were announced"))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A length of so many bytes, little-endian.
    fn length(&mut self, width: usize) -> Result<usize, PickleError> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| self.error("a length beyond this machine"))
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = &self.input[self.at..];
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(self.error("ends within a line"));
        };
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| self.error("a line is not UTF-8"))?;
        self.at += end + 1;
        Ok(line)
    }

    fn error(&self, problem: impl Into<String>) -> PickleError {
        PickleError { offset: self.at, problem: problem.into() }
    }
}

/// An integer in two's complement, little-endian.
fn long(bytes: &[u8]) -> Node<'static> {
    if bytes.len() > 8 {
        return Node::BigInt;
    }
    let sign = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut extended = if sign { [0xff; 8] } else { [0; 8] };
    extended[..bytes.len()].copy_from_slice(bytes);
    Node::Int(i64::from_le_bytes(extended))
}

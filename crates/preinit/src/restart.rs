//! The new `_start` of an initialized module: `resume`, or everything from the beginning.
//!
//! Wizer drops the data that a module began with. Here they come back as passive segments, from which a restart
//! makes memory as it was: what lies between the first of them and the heap is zero but for them. What is in
//! the heap and on the stack need not be cleared: no program may read there what it has not written.
#![forbid(unsafe_code)]

use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ExportSection, Function,
    FunctionSection, RawSection, SectionId,
    reencode::{Reencode as _, RoundtripReencoder},
};
use wasmparser::{
    BinaryReaderError, DataKind, ExternalKind, FunctionBody, Operator, Parser, Payload, TypeRef,
};

/// The export that goes on with an initialized memory.
const RESUME: &str = "resume";
const START: &str = "_start";
/// The local of the new `_start` with what `resume` answered.
const HEAP: u32 = 0;

/// Why a module cannot be restarted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestartError {
    #[error("it is not valid: {0}")]
    Invalid(#[from] BinaryReaderError),
    #[error("it does not export {0}")]
    NoExport(&'static str),
    #[error("{0} has another type than it should")]
    Type(&'static str),
    #[error("it has {0}, which this program does not know")]
    Unknown(&'static str),
}

/// A value of a global.
#[derive(Clone, Copy, Debug)]
enum Value {
    I32(i32),
    I64(i64),
}

/// What an original module is before it runs.
#[derive(Default)]
struct Original<'a> {
    /// The data of each segment, and where it goes if it is active.
    segments: Vec<(Option<u32>, &'a [u8])>,
    /// The globals that change, and what they are at first.
    globals: Vec<(u32, Value)>,
}

impl<'a> Original<'a> {
    fn read(wasm: &'a [u8]) -> Result<Self, RestartError> {
        let mut original = Self::default();
        let mut imported = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        imported += u32::from(matches!(import?.ty, TypeRef::Global(_)));
                    }
                }
                Payload::GlobalSection(section) => {
                    for (index, global) in (imported..).zip(section) {
                        let global = global?;
                        if global.ty.mutable {
                            let value = constant(&global.init_expr)?;
                            let value =
                                value.ok_or(RestartError::Unknown("a global of no number"))?;
                            original.globals.push((index, value));
                        }
                    }
                }
                Payload::DataSection(section) => {
                    for segment in section {
                        let segment = segment?;
                        let place = match segment.kind {
                            DataKind::Passive => None,
                            DataKind::Active {
                                memory_index: 0,
                                offset_expr,
                            } => match constant(&offset_expr)? {
                                Some(Value::I32(offset)) => Some(offset.cast_unsigned()),
                                _ => return Err(RestartError::Unknown("data at no fixed place")),
                            },
                            DataKind::Active { .. } => {
                                return Err(RestartError::Unknown("several memories"));
                            }
                        };
                        original.segments.push((place, segment.data));
                    }
                }
                _ => {}
            }
        }
        Ok(original)
    }

    /// Calls `resume`; unless that answers 0, makes memory and globals as they were, and calls `start`.
    fn start_function(&self, resume: u32, start: u32) -> Function {
        let mut function = Function::new([(1, wasm_encoder::ValType::I32)]);
        let mut body = function.instructions();
        body.call(resume)
            .local_tee(HEAP)
            .if_(wasm_encoder::BlockType::Empty);
        let active = || {
            let numbered = (0..).zip(&self.segments);
            numbered.filter_map(|(index, (place, data))| Some((index, (*place)?, data)))
        };
        let first = active().map(|(_, place, _)| place).min().unwrap_or(0);
        body.i32_const(first.cast_signed())
            .i32_const(0)
            .local_get(HEAP)
            .i32_const(first.cast_signed())
            .i32_sub()
            .memory_fill(0);
        for (index, place, data) in active() {
            // The data of a module has less than 4 GiB.
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            body.i32_const(place.cast_signed())
                .i32_const(0)
                .i32_const(length.cast_signed())
                .memory_init(0, index);
        }
        for (index, value) in &self.globals {
            match value {
                Value::I32(value) => body.i32_const(*value),
                Value::I64(value) => body.i64_const(*value),
            };
            body.global_set(*index);
        }
        body.call(start).end().end();
        function
    }
}

/// The value of an expression that is one constant.
fn constant(expression: &wasmparser::ConstExpr<'_>) -> Result<Option<Value>, RestartError> {
    let mut operators = expression.get_operators_reader();
    let value = match operators.read()? {
        Operator::I32Const { value } => Value::I32(value),
        Operator::I64Const { value } => Value::I64(value),
        _ => return Ok(None),
    };
    Ok(matches!(operators.read()?, Operator::End).then_some(value))
}

/// The functions of a snapshot that the new `_start` calls, and its own index.
struct Functions {
    resume: u32,
    start: u32,
    start_type: u32,
    new: u32,
}

impl Functions {
    fn read(wasm: &[u8]) -> Result<Self, RestartError> {
        // The type of each function, those that are imported first.
        let mut types = Vec::new();
        let (mut resume, mut start) = (None, None);
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        if let TypeRef::Func(kind) = import?.ty {
                            types.push(kind);
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for kind in section {
                        types.push(kind?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        match (export.name, export.kind) {
                            (RESUME, ExternalKind::Func) => resume = Some(export.index),
                            (START, ExternalKind::Func) => start = Some(export.index),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let start = start.ok_or(RestartError::NoExport(START))?;
        let new = u32::try_from(types.len()).map_err(|_| RestartError::Type(START))?;
        let start_type = usize::try_from(start)
            .ok()
            .and_then(|index| types.get(index));
        Ok(Self {
            resume: resume.ok_or(RestartError::NoExport(RESUME))?,
            start,
            start_type: *start_type.ok_or(RestartError::Type(START))?,
            new,
        })
    }
}

/// Gives `snapshot`, which Wizer made of `original`, its new `_start`.
pub(crate) fn restartable(original: &[u8], snapshot: &[u8]) -> Result<Vec<u8>, RestartError> {
    let original = Original::read(original)?;
    let functions = Functions::read(snapshot)?;
    let mut module = wasm_encoder::Module::new();
    let mut counted = false;
    let mut bodies: Vec<FunctionBody<'_>> = Vec::new();
    let segments = |wasm| {
        let mut segments = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            if let Payload::DataSection(section) = payload? {
                segments = section.count();
            }
        }
        Ok::<_, RestartError>(segments)
    };
    let count = DataCountSection {
        count: segments(snapshot)?,
    };
    for payload in Parser::new(0).parse_all(snapshot) {
        let payload = payload?;
        match &payload {
            Payload::FunctionSection(section) => {
                let mut kinds = FunctionSection::new();
                for kind in section.clone() {
                    kinds.function(kind?);
                }
                kinds.function(functions.start_type);
                module.section(&kinds);
            }
            Payload::ExportSection(section) => {
                let mut exports = ExportSection::new();
                for export in section.clone() {
                    let mut export = export?;
                    match export.name {
                        START => export.index = functions.new,
                        RESUME => continue,
                        _ => {}
                    }
                    let kind = RoundtripReencoder
                        .export_kind(export.kind)
                        .map_err(|_| RestartError::Unknown("an export of a new kind"))?;
                    exports.export(export.name, kind, export.index);
                }
                module.section(&exports);
            }
            Payload::DataCountSection { .. } => {
                module.section(&count);
                counted = true;
            }
            Payload::CodeSectionStart { .. } => {
                // `memory.init` needs it.
                if !counted {
                    module.section(&count);
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(body.clone()),
            Payload::DataSection(section) => {
                module.section(&code(&bodies, snapshot, &original, &functions));
                let mut data = DataSection::new();
                for (index, segment) in section.clone().into_iter().enumerate() {
                    let segment = segment?;
                    match (original.segments.get(index), segment.kind) {
                        (Some((_, first)), _) => {
                            data.passive(first.iter().copied());
                        }
                        (None, DataKind::Active { offset_expr, .. }) => {
                            let Some(Value::I32(offset)) = constant(&offset_expr)? else {
                                return Err(RestartError::Unknown("data at no fixed place"));
                            };
                            let bytes = segment.data.iter().copied();
                            data.active(0, &ConstExpr::i32_const(offset), bytes);
                        }
                        (None, DataKind::Passive) => {
                            data.passive(segment.data.iter().copied());
                        }
                    }
                }
                module.section(&data);
            }
            other => {
                if let Some((id, range)) = other.as_section()
                    && id != u8::from(SectionId::Code)
                {
                    module.section(&RawSection {
                        id,
                        data: &snapshot[range],
                    });
                }
            }
        }
    }
    Ok(module.finish())
}

/// The code of a snapshot, and the new `_start` behind it.
fn code(
    bodies: &[FunctionBody<'_>],
    snapshot: &[u8],
    original: &Original<'_>,
    functions: &Functions,
) -> CodeSection {
    let mut code = CodeSection::new();
    for body in bodies {
        code.raw(&snapshot[body.range()]);
    }
    code.function(&original.start_function(functions.resume, functions.start));
    code
}

//! The calls, each with the handles, paths and numbers that it is made with.

use arbitrary::Arbitrary;

use super::values::{Address, Choice, Name, Number, Path, Time};

/// A call of a function. A handle is the number of one among those of its kind that the guest has; without one,
/// nothing is called. Only `wasi:cli/exit` is never called: it ends the process.
#[derive(Debug, Arbitrary)]
pub enum Call {
    File(u8, FileCall),
    Path(u8, PathCall),
    Input(u8, InputCall),
    Output(u8, OutputCall),
    Wait(u8, WaitCall),
    Tcp(u8, TcpCall),
    Udp(u8, UdpCall),
    Other(OtherCall),
    /// Of the kind with this number.
    Drop(u8, u8),
}

/// Of what is open.
#[derive(Debug, Arbitrary)]
pub enum FileCall {
    ReadViaStream(Number),
    WriteViaStream(Number),
    AppendViaStream,
    Advise(Number, Number, Choice),
    SyncData,
    Sync,
    GetFlags,
    GetType,
    SetSize(Number),
    SetTimes(Time, Time),
    Read(Number, Number),
    Write(Number, Number),
    ReadDirectory,
    ReadEntry,
    Stat,
    MetadataHash,
    IsSame(u8),
}

/// Of what has a path beneath a directory.
#[derive(Debug, Arbitrary)]
pub enum PathCall {
    Open(Choice, Path, Choice, Choice),
    CreateDirectory(Path),
    Stat(Choice, Path),
    SetTimes(Choice, Path, Time, Time),
    Link(Choice, Path, u8, Path),
    ReadLink(Path),
    RemoveDirectory(Path),
    Rename(Path, u8, Path),
    SymbolicLink(Path, Path),
    Unlink(Path),
    MetadataHash(Choice, Path),
}

#[derive(Debug, Arbitrary)]
pub enum InputCall {
    Read(Number),
    BlockingRead(Number),
    Skip(Number),
    BlockingSkip(Number),
    Subscribe,
}

#[derive(Debug, Arbitrary)]
pub enum OutputCall {
    CheckWrite,
    /// As much of it as is permitted.
    Write(Number),
    /// Without asking first.
    Unasked(Number),
    BlockingWrite(Number),
    Flush,
    BlockingFlush,
    WriteZeroes(Number),
    BlockingWriteZeroes(Number),
    Splice(u8, Number),
    BlockingSplice(u8, Number),
    Subscribe,
}

#[derive(Debug, Arbitrary)]
pub enum WaitCall {
    Poll(Vec<u8>, bool),
    Ready,
    Block,
    Instant(u64),
    Duration(u64),
    Clocks,
    DebugText,
    ErrorCodes,
}

#[derive(Debug, Arbitrary)]
pub enum TcpCall {
    Create(Choice),
    StartBind(u8, Address),
    FinishBind,
    StartConnect(u8, Address),
    FinishConnect,
    StartListen,
    FinishListen,
    Accept,
    LocalAddress,
    RemoteAddress,
    IsListening,
    Family,
    SetBacklog(Number),
    KeepAlive,
    SetKeepAlive(bool, Number, Number, u32),
    SetHops(u8),
    SetBuffers(Number, Number),
    Sizes,
    Subscribe,
    Shutdown(Choice),
}

#[derive(Debug, Arbitrary)]
pub enum UdpCall {
    Create(Choice),
    StartBind(u8, Address),
    FinishBind,
    Stream(Option<Address>),
    LocalAddress,
    RemoteAddress,
    Family,
    SetHops(u8),
    SetBuffers(Number, Number),
    Sizes,
    Subscribe,
    Receive(Number),
    CheckSend,
    Send(bool, Vec<(u8, Option<Address>)>),
    SubscribeIncoming,
    SubscribeOutgoing,
}

#[derive(Debug, Arbitrary)]
pub enum OtherCall {
    Roots,
    Network,
    Environment,
    Terminals,
    Random(Number),
    Resolve(u8, Name),
    NextAddress(u8),
    SubscribeAddresses(u8),
    /// The other sides of its connections take so much at most.
    OthersTake(Number),
}

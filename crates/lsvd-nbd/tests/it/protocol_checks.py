"""Checks of an NBD server through libnbd with its own checks of requests switched off.

Usage: protocol_checks.py SOCKET. The default export is writable and empty, "fixed" is read-only;
both hold 256 MiB.
"""

import errno
import os
import sys
import threading

try:
    import nbd
except ImportError:
    sys.exit("the module nbd is missing: install the package python3-libnbd")

SOCKET = sys.argv[1]
SIZE = 256 << 20
MAX = 32 << 20


def connect(export="", contexts=True, structured=True):
    handle = nbd.NBD()
    handle.set_export_name(export)
    handle.set_request_structured_replies(structured)
    if contexts:
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.connect_unix(SOCKET)
    handle.set_strict_mode(0)
    return handle


def fails(wanted, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except nbd.Error as error:
        assert error.errnum == wanted, (wanted, error.errnum, error.string)
        return
    raise AssertionError(f"{call.__name__}{args} succeeded")


def status(handle, count, offset, flags=0):
    found = []

    def extent(context, start, entries, error):
        assert context == "base:allocation" and start == offset
        found.extend(entries)

    handle.block_status(count, offset, extent, flags)
    return list(zip(found[::2], found[1::2]))


def check_negotiation():
    handle = connect()
    assert handle.get_size() == SIZE
    assert handle.get_structured_replies_negotiated()
    assert handle.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    for can in ("cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"):
        assert getattr(handle, "can_" + can)(), can
    sizes = [handle.get_block_size(kind) for kind in (0, 1, 2)]
    assert sizes == [512, 4096, MAX], sizes
    assert not connect(structured=False, contexts=False).can_df()


def check_options():
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.connect_unix(SOCKET)
    listed = []
    handle.opt_list(lambda name, description: listed.append((name, description)))
    assert listed == [("", "a disk in memory"), ("fixed", "")], listed
    contexts = []
    handle.opt_list_meta_context(contexts.append)
    assert contexts == ["base:allocation"], contexts
    handle.set_export_name("missing")
    fails(errno.ENOENT, handle.opt_info)
    handle.set_export_name("fixed")
    handle.opt_info()
    assert handle.is_read_only() and handle.get_size() == SIZE
    handle.set_export_name("")
    handle.opt_go()
    handle.pwrite(b"1" * 512, 0)
    aborted = nbd.NBD()
    aborted.set_opt_mode(True)
    aborted.connect_unix(SOCKET)
    aborted.opt_abort()


def check_data():
    handle = connect()
    data = os.urandom(MAX)
    handle.pwrite(data, 0)
    assert handle.pread(MAX, 0) == data
    assert handle.pread(65536, 4096, nbd.CMD_FLAG_DF) == data[4096 : 4096 + 65536]
    chunks = []

    def chunk(buf, offset, state, error):
        chunks.append((offset, len(buf), state))

    assert handle.pread_structured(1 << 20, 0, chunk) == data[: 1 << 20]
    assert sum(length for _, length, _ in chunks) == 1 << 20
    handle.pwrite(b"f" * 512, SIZE - 512, nbd.CMD_FLAG_FUA)
    assert handle.pread(512, SIZE - 512) == b"f" * 512
    handle.flush()
    handle.cache(MAX, 0)
    handle.trim(1 << 20, 0)
    handle.trim(512, 2 << 20, nbd.CMD_FLAG_FUA)
    assert handle.pread(512, 2 << 20) == bytes(512)
    handle.zero(1 << 20, 4 << 20, nbd.CMD_FLAG_NO_HOLE)
    assert handle.pread(1 << 20, 4 << 20) == bytes(1 << 20)
    handle.zero(1 << 20, 6 << 20, nbd.CMD_FLAG_FAST_ZERO)
    assert handle.pread(1 << 20, 6 << 20) == bytes(1 << 20)
    handle.trim(SIZE, 0)
    assert handle.pread(MAX, 0) == bytes(MAX)


def check_block_status():
    handle = connect()
    handle.trim(SIZE, 0)
    handle.pwrite(b"d" * (1 << 20), 1 << 20)
    assert status(handle, SIZE, 0) == [
        (1 << 20, nbd.STATE_HOLE | nbd.STATE_ZERO),
        (1 << 20, 0),
        (SIZE - (2 << 20), nbd.STATE_HOLE | nbd.STATE_ZERO),
    ]
    assert status(handle, SIZE, 0, nbd.CMD_FLAG_REQ_ONE) == [(1 << 20, 3)]
    fails(errno.EINVAL, status, handle, 512, SIZE)
    fails(errno.EINVAL, status, handle, 0, 0)


def check_errors(handle):
    fails(errno.EINVAL, handle.pread, 512, SIZE)
    fails(errno.EINVAL, handle.pread, 1024, SIZE - 512)
    fails(errno.EINVAL, handle.pread, 512, 1)
    fails(errno.EINVAL, handle.pread, 100, 0)
    fails(errno.EINVAL, handle.pread, MAX + 512, 0)
    fails(errno.ENOSPC, handle.pwrite, b"x" * 512, SIZE)
    fails(errno.ENOSPC, handle.pwrite, b"x" * 1024, SIZE - 512)
    fails(errno.EINVAL, handle.pwrite, b"x" * 100, 0)
    fails(errno.EINVAL, handle.pwrite, b"x" * 512, 77)
    fails(errno.ENOSPC, handle.zero, 512, SIZE)
    fails(errno.EINVAL, handle.zero, 100, 0)
    fails(errno.EINVAL, handle.trim, 512, SIZE)
    fails(errno.EINVAL, handle.trim, 512, 1)
    fails(errno.EINVAL, handle.cache, 512, SIZE)
    fails(errno.EINVAL, handle.trim, 512, 0, nbd.CMD_FLAG_NO_HOLE)
    fails(errno.EINVAL, handle.pwrite, b"x" * 512, 0, nbd.CMD_FLAG_FAST_ZERO)
    fails(errno.EINVAL, handle.pread, 512, 0, nbd.CMD_FLAG_REQ_ONE)
    handle.zero(0, 0)
    handle.trim(0, 0)
    assert len(handle.pread(512, 0)) == 512


def check_read_only():
    handle = connect("fixed")
    assert handle.is_read_only() and not handle.can_trim() and not handle.can_zero()
    for _ in range(3):
        fails(errno.EPERM, handle.pwrite, b"x" * 65536, 0)
        fails(errno.EPERM, handle.trim, 65536, 0)
        fails(errno.EPERM, handle.zero, 65536, 0)
        assert handle.pread(512, 0) == bytes(512)


def check_many_in_flight():
    handle = connect()
    blocks = [os.urandom(4096) for _ in range(512)]
    cookies = [
        handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(block)), at * 4096)
        for at, block in enumerate(blocks)
    ]
    while handle.aio_in_flight():
        handle.poll(-1)
    assert all(handle.aio_command_completed(cookie) for cookie in cookies)
    buffers = [nbd.Buffer(4096) for _ in blocks]
    for at, buffer in enumerate(buffers):
        handle.aio_pread(buffer, at * 4096)
    while handle.aio_in_flight():
        handle.poll(-1)
    assert all(bytes(buffer.to_bytearray()) == block for buffer, block in zip(buffers, blocks))


def check_connections():
    handles = [connect() for _ in range(64)]
    for round, handle in enumerate(handles):
        handle.pwrite(bytes([round]) * 512, 0)
        handle.flush()
        assert handles[round - 1].pread(512, 0) == bytes([round]) * 512
    threads = [
        threading.Thread(target=lambda h=h: [h.pread(4096, 0) for _ in range(50)]) for h in handles
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(200):
        again = connect()
        assert again.get_size() == SIZE
        again.shutdown()


check_negotiation()
check_options()
check_data()
check_block_status()
check_errors(connect())
check_errors(connect(structured=False, contexts=False))
check_read_only()
check_many_in_flight()
check_connections()
print("all checks passed")

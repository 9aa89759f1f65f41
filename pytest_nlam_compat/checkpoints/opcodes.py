"""The opcodes of pickle, by the names of ``pickletools``."""

from __future__ import annotations

import enum


class Op(enum.IntEnum):
    """The opcodes that picklers of binary protocols write."""

    PROTO = 0x80
    FRAME = 0x95
    STOP = ord(".")
    MARK = ord("(")

    BINPUT = ord("q")
    LONG_BINPUT = ord("r")
    MEMOIZE = 0x94
    BINGET = ord("h")
    LONG_BINGET = ord("j")

    NONE = ord("N")
    NEWTRUE = 0x88
    NEWFALSE = 0x89
    BININT = ord("J")
    BININT1 = ord("K")
    BININT2 = ord("M")
    LONG1 = 0x8A
    LONG4 = 0x8B
    BINFLOAT = ord("G")
    BINUNICODE = ord("X")
    SHORT_BINUNICODE = 0x8C
    BINUNICODE8 = 0x8D
    BINBYTES = ord("B")
    SHORT_BINBYTES = ord("C")
    BINBYTES8 = 0x8E
    BYTEARRAY8 = 0x96

    EMPTY_TUPLE = ord(")")
    TUPLE1 = 0x85
    TUPLE2 = 0x86
    TUPLE3 = 0x87
    TUPLE = ord("t")
    EMPTY_LIST = ord("]")
    APPEND = ord("a")
    APPENDS = ord("e")
    EMPTY_DICT = ord("}")
    SETITEM = ord("s")
    SETITEMS = ord("u")
    EMPTY_SET = 0x8F
    ADDITEMS = 0x90
    FROZENSET = 0x91

    GLOBAL = ord("c")
    STACK_GLOBAL = 0x93
    REDUCE = ord("R")
    BUILD = ord("b")
    NEWOBJ = 0x81
    NEWOBJ_EX = 0x92
    OBJ = ord("o")
    INST = ord("i")
    BINPERSID = ord("Q")


#: Those that torch.save has no use for, for the message alone.
REFUSED = {
    ord("0"): "POP",
    ord("1"): "POP_MARK",
    ord("2"): "DUP",
    ord("F"): "FLOAT",
    ord("I"): "INT",
    ord("L"): "LONG",
    ord("P"): "PERSID",
    ord("S"): "STRING",
    ord("T"): "BINSTRING",
    ord("U"): "SHORT_BINSTRING",
    ord("V"): "UNICODE",
    ord("d"): "DICT",
    ord("g"): "GET",
    ord("l"): "LIST",
    ord("p"): "PUT",
    0x82: "EXT1",
    0x83: "EXT2",
    0x84: "EXT4",
    0x97: "NEXT_BUFFER",
    0x98: "READONLY_BUFFER",
}

// Package pipewire reads and writes the messages of conclave.pipeline.v1 without
// its generated types: they are what all calls of a pipeline share, and an object
// for each part of each message would cost more than the rest.
//
// What it reads refers to the bytes that it was given, and holds as long as they
// do. As in all of protobuf, fields that are not known are skipped.
package pipewire

import (
	"errors"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of conclave.pipeline.v1.
const (
	fieldCalls    = 1
	fieldCancels  = 2
	callID        = 1
	callMethod    = 2
	callRequest   = 3
	callTimeout   = 4
	callMetadata  = 5
	pairKey       = 1
	pairValue     = 2
	fieldAnswers  = 1
	answerID      = 1
	answerOK      = 2
	answerStatus  = 3
	answerHeader  = 4
	answerTrailer = 5
)

// ErrMalformed says that bytes are no such message.
var ErrMalformed = errors.New("malformed protobuf")

// A Call is a Call of the API.
type Call struct {
	ID       uint64
	Method   []byte
	Request  []byte
	Timeout  time.Duration // 0: none
	Metadata metadata.MD   // nil: none
	Pairs    int           // bytes of the metadata, with PairBytes for each pair. What is over MaxPairs is not read
}

// An Answer is an Answer of the API.
type Answer struct {
	ID              uint64
	Response        []byte
	Status          []byte      // a google.rpc.Status; empty: no error
	Header, Trailer metadata.MD // nil: none
}

// Requests reads a CallsRequest: its calls and the ids of those to cancel, in
// their order within the message. What begin is given is valid until it returns.
// It stops at the first error of begin, and returns it; [ErrMalformed] is its own.
func Requests(b []byte, begin func(*Call) error, cancel func(id uint64)) error {
	var c Call
	return fields(b, func(n protowire.Number, f field) error {
		switch {
		case n == fieldCalls && f.kind == protowire.BytesType:
			c = Call{}
			if err := c.read(f.bytes); err != nil {
				return err
			}
			return begin(&c)
		case n == fieldCancels && f.kind == protowire.VarintType:
			cancel(f.number)
		case n == fieldCancels && f.kind == protowire.BytesType:
			return packed(f.bytes, cancel)
		}
		return nil
	})
}

func (c *Call) read(b []byte) error {
	return fields(b, func(n protowire.Number, f field) error {
		switch {
		case n == callID && f.kind == protowire.VarintType:
			c.ID = f.number
		case n == callMethod && f.kind == protowire.BytesType:
			c.Method = f.bytes
		case n == callRequest && f.kind == protowire.BytesType:
			c.Request = f.bytes
		case n == callTimeout && f.kind == protowire.VarintType:
			c.Timeout = duration(f.number)
		case n == callMetadata && f.kind == protowire.BytesType:
			if c.Pairs += len(f.bytes) + PairBytes; c.Pairs <= MaxPairs {
				return readPair(f.bytes, &c.Metadata)
			}
		}
		return nil
	})
}

// duration bounds what would overflow: nobody waits for 292 years.
func duration(n uint64) time.Duration {
	const longest = 1<<63 - 1
	return time.Duration(min(n, longest))
}

// Answers reads a CallsResponse. What each is given is valid until it returns.
func Answers(b []byte, each func(*Answer)) error {
	var a Answer
	return fields(b, func(n protowire.Number, f field) error {
		if n != fieldAnswers || f.kind != protowire.BytesType {
			return nil
		}
		a = Answer{}
		if err := a.read(f.bytes); err != nil {
			return err
		}
		each(&a)
		return nil
	})
}

func (a *Answer) read(b []byte) error {
	return fields(b, func(n protowire.Number, f field) error {
		switch {
		case n == answerID && f.kind == protowire.VarintType:
			a.ID = f.number
		case f.kind != protowire.BytesType:
		case n == answerOK:
			a.Response = f.bytes
		case n == answerStatus:
			a.Status = f.bytes
		case n == answerHeader:
			return readPair(f.bytes, &a.Header)
		case n == answerTrailer:
			return readPair(f.bytes, &a.Trailer)
		}
		return nil
	})
}

// A field is one field of a message, of either kind that the API has.
type field struct {
	kind   protowire.Type
	number uint64
	bytes  []byte
}

func fields(b []byte, each func(protowire.Number, field) error) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return ErrMalformed
		}
		b = b[size:]
		f := field{kind: kind}
		switch kind {
		case protowire.VarintType:
			f.number, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.bytes, size = protowire.ConsumeBytes(b)
		default:
			size = protowire.ConsumeFieldValue(n, kind, b)
		}
		if size < 0 {
			return ErrMalformed
		}
		b = b[size:]
		if err := each(n, f); err != nil {
			return err
		}
	}
	return nil
}

func packed(b []byte, each func(uint64)) error {
	for len(b) > 0 {
		v, size := protowire.ConsumeVarint(b)
		if size < 0 {
			return ErrMalformed
		}
		b = b[size:]
		each(v)
	}
	return nil
}

func readPair(b []byte, md *metadata.MD) error {
	var key, value string
	err := fields(b, func(n protowire.Number, f field) error {
		switch {
		case f.kind != protowire.BytesType:
		case n == pairKey:
			key = string(f.bytes)
		case n == pairValue:
			value = string(f.bytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if *md == nil {
		*md = metadata.MD{}
	}
	(*md)[key] = append((*md)[key], value)
	return nil
}

package pipewire

import "google.golang.org/grpc/mem"

// shared is how many bytes of calls or answers share a message. With more, those at
// its front would wait for those at its end.
const shared = 16 << 10

// What travels in a pipeline.
const (
	MaxRequest = 64 << 10  // bytes of a request that shares a message with others, which wait for it
	MaxPairs   = 64 << 10  // bytes of a call's metadata, with [PairBytes] for each pair
	PairBytes  = 32        // what a pair counts beside its key and its value, as in a header of HTTP/2
	MaxMessage = 256 << 10 // bytes of a message that a host takes whatever its limit of one request
)

// first is the size of a new message.
const first = 1 << 10

// An Outbox is what waits to be sent: what comes while a message is being written
// shares the next one. The zero value is empty. It has no lock of its own.
type Outbox struct {
	full  [][]byte
	open  []byte
	bytes int // of full
}

// Call adds a call of a method.
func (o *Outbox) Call(method string, c *Call) { o.add(AppendCall(o.message(), method, c)) }

// Cancel adds the end of a call.
func (o *Outbox) Cancel(id uint64) { o.add(AppendCancel(o.message(), id)) }

// Answer adds an answer.
func (o *Outbox) Answer(a *Answer) { o.add(AppendAnswer(o.message(), a)) }

func (o *Outbox) message() []byte {
	if o.open == nil {
		o.open = (*mem.DefaultBufferPool().Get(first))[:0]
	}
	return o.open
}

func (o *Outbox) add(message []byte) {
	if o.open = message; len(message) >= shared {
		o.full, o.open, o.bytes = append(o.full, message), nil, o.bytes+len(message)
	}
}

// Len returns how many bytes wait.
func (o *Outbox) Len() int { return o.bytes + len(o.open) }

// Full reports whether a message waits that nothing is added to any more.
func (o *Outbox) Full() bool { return len(o.full) > 0 }

// Take takes the next message out, whose buffer is the caller's. It is empty if
// nothing waits.
func (o *Outbox) Take() mem.BufferSlice {
	var message []byte
	if len(o.full) > 0 {
		message = o.full[0]
		o.full, o.bytes = o.full[1:], o.bytes-len(message)
	} else {
		message, o.open = o.open, nil
	}
	if len(message) == 0 {
		return nil
	}
	return mem.BufferSlice{mem.NewBuffer(&message, mem.DefaultBufferPool())}
}

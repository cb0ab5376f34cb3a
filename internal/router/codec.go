package router

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one wraps
	"google.golang.org/grpc/mem"
)

// A frame is one message as it came. Whoever has it last frees it or sends it.
type frame struct{ data mem.BufferSlice }

func (f *frame) free() {
	f.data.Free()
	f.data = nil
}

// bytes returns the message in one piece, which is valid until the frame is
// freed or sent.
func (f *frame) bytes() []byte {
	switch len(f.data) {
	case 0:
		return nil
	case 1:
		return f.data[0].ReadOnlyData()
	}
	whole := f.data.MaterializeToBuffer(mem.DefaultBufferPool())
	f.data.Free()
	f.data = mem.BufferSlice{whole}
	return whole.ReadOnlyData()
}

// Codec returns the codec that a stream given to [Router.Handle] must decode and
// encode with: protobuf, and undecoded messages, which the router reads and
// writes as a type of its own. It takes references to the buffers that it is
// given and leaves the caller's own to the caller, as every codec does.
func Codec() encoding.CodecV2 { return codec{} }

type codec struct{}

// protobuf is gRPC's own codec, found once: to look it up for each message shows in
// profiles.
var protobuf = encoding.GetCodecV2("proto")

// Name is protobuf's: on the wire there is no difference.
func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		data := f.data
		f.data = nil
		return data, nil
	}
	return protobuf.Marshal(v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		data.Ref()
		f.data = data
		return nil
	}
	return protobuf.Unmarshal(data, v)
}

package scope

import (
	"context"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// kvClient is the space as etcd's KV API.
type kvClient struct{ s *Space }

// Range reads keys of the space.
func (c kvClient) Range(ctx context.Context, r *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	if err := c.s.refusals.check(c.s.keys.read(r)); err != nil {
		return nil, err
	}
	return c.s.back.KV.Range(plainContext(ctx), r, c.s.calls...)
}

// RangeStream reads keys of the space in parts. A backend that has no such call,
// as the one in a member's own process, answers in one part.
func (c kvClient) RangeStream(ctx context.Context, r *pb.RangeRequest, _ ...grpc.CallOption) (pb.KV_RangeStreamClient, error) {
	if err := c.s.refusals.check(c.s.keys.read(r)); err != nil {
		return nil, err
	}
	stream, err := c.s.back.KV.RangeStream(plainContext(ctx), r, c.s.calls...)
	if status.Code(err) != codes.Unimplemented {
		return stream, err
	}
	resp, err := c.s.back.KV.Range(plainContext(ctx), r, c.s.calls...)
	if err != nil {
		return nil, err
	}
	return &onePart{part: &pb.RangeStreamResponse{RangeResponse: resp}}, nil
}

// Put writes a key of the space.
func (c kvClient) Put(ctx context.Context, r *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	if err := c.s.refusals.check(c.s.keys.put(r)); err != nil {
		return nil, err
	}
	return c.s.back.KV.Put(plainContext(ctx), r, c.s.calls...)
}

// DeleteRange deletes keys of the space.
func (c kvClient) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest, _ ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	if err := c.s.refusals.check(c.s.keys.remove(r)); err != nil {
		return nil, err
	}
	return c.s.back.KV.DeleteRange(plainContext(ctx), r, c.s.calls...)
}

// Txn is refused as a whole if any part of it, at any depth, names a key outside
// the space.
func (c kvClient) Txn(ctx context.Context, r *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	if err := c.s.refusals.check(c.s.keys.txn(r)); err != nil {
		return nil, err
	}
	return c.s.back.KV.Txn(plainContext(ctx), r, c.s.calls...)
}

// Compact is refused: the history is everybody's.
func (c kvClient) Compact(context.Context, *pb.CompactionRequest, ...grpc.CallOption) (*pb.CompactionResponse, error) {
	return nil, c.s.refusals.note(kindCompact)
}

// onePart is a stream of one answer.
type onePart struct {
	grpc.ClientStream
	part *pb.RangeStreamResponse
}

// Recv returns the answer, then io.EOF.
func (o *onePart) Recv() (*pb.RangeStreamResponse, error) {
	part := o.part
	if part == nil {
		return nil, io.EOF
	}
	o.part = nil
	return part, nil
}

package watch

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// streamHeader is the outgoing metadata that tells clientv3 which watches share
// a stream. etcd ignores it.
const streamHeader = "conclave-watch"

// Streams decides which of a client's streams new watches use. The zero value is
// ready, and safe for concurrent use. Without one a watch uses the common stream
// of its client.
//
// It exists for etcd's authentication: a stream keeps the token that it was
// opened with, and etcd refuses new watches on it once that token has expired
// (etcd#12385). The first watch that meets this moves Streams to a fresh stream,
// which carries a fresh token; watches on the old one go on undisturbed. Share
// one Streams per client, or each watch finds out for itself.
type Streams struct {
	keys, observers lane
}

// lane is one sort of watch; its stream changes when etcd refuses the old one.
type lane struct {
	current atomic.Pointer[stream]
}

// stream is what all watches of one gRPC stream have in common.
type stream struct {
	ctx context.Context // with the metadata; never ends
}

// stream returns what new watches use; name is the same at every call.
func (l *lane) stream(name string) *stream {
	if s := l.current.Load(); s != nil {
		return s
	}
	l.current.CompareAndSwap(nil, newStream(name))
	return l.current.Load()
}

// renew leaves refused. Of many watches that were refused together one moves
// the lane, and the others follow it.
func (l *lane) renew(name string, refused *stream) {
	// Random and not a counter: two Streams of one client must not lead each
	// other to a stream whose token has expired too.
	l.current.CompareAndSwap(refused, newStream(name+"-"+strconv.FormatUint(rand.Uint64(), 36)))
}

func newStream(id string) *stream {
	ctx := metadata.NewOutgoingContext(context.Background(), metadata.Pairs(streamHeader, id))
	return &stream{ctx: clientv3.WithRequireLeader(ctx)}
}

package scope

import (
	"context"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// watchHeaders begins the metadata with which internal/watch chooses a stream.
const watchHeaders = "conclave-watch"

// plainContext returns ctx without what would change on whose behalf etcd acts.
//
// A recipe passes on the context of a call that it serves. A member in the same
// process would take the token of that call's metadata for its own caller's, and
// the certificate of that call's connection for its user; if the connection has
// no TLS, it panics (auth.AuthInfoFromTLS).
func plainContext(ctx context.Context) context.Context {
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, essential(md))
	}
	if metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameGRPC) != nil ||
		metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameSwagger) != nil {
		ctx = metadata.NewIncomingContext(ctx, nil)
	}
	if p, ok := peer.FromContext(ctx); ok && p.AuthInfo != nil {
		ctx = peer.NewContext(ctx, &peer.Peer{})
	}
	return ctx
}

// streamContext returns a context that ends with ctx and has none of its values
// but the metadata that choose the stream of a watch: clientv3 opens one stream
// for each distinct metadata, and a stream keeps the values of the first context
// for as long as it lives.
func streamContext(ctx context.Context) context.Context {
	bare := context.Context(valueless{ctx})
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		if md = essential(md); len(md) > 0 {
			return metadata.NewOutgoingContext(bare, md)
		}
	}
	return bare
}

// valueless is a context without values.
type valueless struct{ context.Context }

// Value returns nil.
func (valueless) Value(any) any { return nil }

// servedContext turns the context of a call that is served into one of the call
// that goes on to etcd: what the caller sent with it stays behind.
func servedContext(ctx context.Context) context.Context {
	leader := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	ctx = metadata.NewIncomingContext(ctx, nil)
	if len(leader) > 0 && leader[0] == rpctypes.MetadataHasLeader {
		ctx = clientv3.WithRequireLeader(ctx)
	}
	return plainContext(ctx)
}

// essential returns the metadata that a recipe may send to etcd.
func essential(md metadata.MD) metadata.MD {
	kept := make(metadata.MD)
	for key, values := range md {
		if key == rpctypes.MetadataRequireLeaderKey || strings.HasPrefix(key, watchHeaders) {
			kept[key] = values
		}
	}
	return kept
}

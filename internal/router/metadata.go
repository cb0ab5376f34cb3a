package router

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/internal/pipewire"
	"github.com/conclavehq/conclave/internal/reason"
)

// metaIdentity names the caller to the recipe. core/recipe has the same name.
const metaIdentity = "conclave-identity"

// inbound returns, as a copy, the metadata that a recipe may see of what a caller
// sent. Away go what belongs to the transport, what only the host says
// (conclave-*), and the caller's credentials, which are for the host alone.
func inbound(ctx context.Context) metadata.MD {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return metadata.MD{}
	}
	for k := range md {
		if hiddenInbound(k) {
			delete(md, k)
		}
	}
	return md
}

func hiddenInbound(k string) bool {
	switch k {
	case "content-type", "user-agent", "te", "authorization", "proxy-authorization", "cookie":
		return true
	case "grpc-trace-bin", "grpc-tags-bin":
		return false
	}
	return strings.HasPrefix(k, ":") || strings.HasPrefix(k, "conclave-") || strings.HasPrefix(k, "grpc-")
}

// checkPairs says what is wrong with metadata that came as data: a transport would
// not have carried them, or would not carry them further. As the header of a call that
// travels alone they are bounded, with size in bytes.
func checkPairs(md metadata.MD, size int) error {
	if size > pipewire.MaxPairs {
		return reason.Errorf(codes.ResourceExhausted, "limit_metadata", "metadata: there are %d bytes, with %d for each pair, and the limit is %d",
			size, pipewire.PairBytes, pipewire.MaxPairs)
	}
	for k, values := range md {
		if k == "" || strings.ContainsFunc(k, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.", c)
		}) {
			return reason.Errorf(codes.InvalidArgument, "invalid_metadata", "metadata: %q is no key: it has other characters than a-z, 0-9, -, _ and .", k)
		}
		for _, v := range values {
			if !strings.HasSuffix(k, "-bin") && strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c > '~' }) {
				return reason.Errorf(codes.InvalidArgument, "invalid_metadata", "metadata: the value of %s has other characters than printable ASCII: its key does not end with -bin", k)
			}
		}
	}
	return nil
}

// sizeOf is how metadata of an answer count, in bytes.
func sizeOf(md metadata.MD) (size int) {
	for k, values := range md {
		for _, v := range values {
			size += len(k) + len(v) + pipewire.PairBytes
		}
	}
	return size
}

// outbound returns the metadata that a caller may see of what a service sent. The
// status has a way of its own: its details came as an ordinary trailer from the
// connection of a plugin.
func outbound(md metadata.MD) metadata.MD {
	hidden := 0
	for k := range md {
		if hiddenOutbound(k) {
			hidden++
		}
	}
	if hidden == 0 {
		return md
	}
	out := make(metadata.MD, len(md))
	for k, v := range md {
		if !hiddenOutbound(k) {
			out[k] = v
		}
	}
	return out
}

func hiddenOutbound(k string) bool {
	switch k = strings.ToLower(k); k {
	case "content-type", "connection", "transfer-encoding", "content-length", "set-cookie":
		return true
	}
	return strings.HasPrefix(k, ":") || strings.HasPrefix(k, "conclave-") ||
		strings.HasPrefix(k, "grpc-") && k != "grpc-trace-bin" && k != "grpc-tags-bin"
}

// setMetadata makes md what the service finds as the caller's metadata. Nobody
// changes it afterwards.
func (c *call) setMetadata(md metadata.MD) {
	c.md, c.ctx = md, metadata.NewIncomingContext(c.ctx, md)
}

// Metadata implements [incall.Call].
func (c *call) Metadata() metadata.MD { return c.md }

// transport returns the call's context with a transport stream that lets through
// only what the caller may see: unary services write their headers there.
func (c *call) transport() context.Context {
	if c.in != nil {
		return c.ctx // whose transport stream does that
	}
	if c.below = grpc.ServerTransportStreamFromContext(c.ctx); c.below != nil {
		return grpc.NewContextWithServerTransportStream(c.ctx, (*filtered)(c))
	}
	return c.ctx
}

// filtered is a call as the transport stream that its service finds.
type filtered call

func (f *filtered) Method() string { return f.below.Method() }

func (f *filtered) SetHeader(md metadata.MD) error { return f.below.SetHeader(outbound(md)) }

func (f *filtered) SendHeader(md metadata.MD) error { return f.below.SendHeader(outbound(md)) }

func (f *filtered) SetTrailer(md metadata.MD) error { return f.below.SetTrailer(outbound(md)) }

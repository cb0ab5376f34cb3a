package embedded

import (
	"context"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// A login makes calls that do not go through a connection those of this process, and of nobody else: the context of a call that the
// process serves has its caller's metadata and certificate, by which etcd would take that caller for its user. (It panics if that caller's
// connection has no TLS and its own listener has: auth.AuthInfoFromTLS.)
type login struct {
	member   *Member
	token    atomic.Pointer[string] // nil: authentication was off when it was last asked for
	renewing chan struct{}          // one slot: who asks for a token holds it
}

func newLogin(m *Member) *login { return &login{member: m, renewing: make(chan struct{}, 1)} }

// call makes a call as the user, and once more with a new token if etcd says that the token is none: it has written nothing then.
func (l *login) call(ctx context.Context, do func(context.Context) error) error {
	token := l.current()
	err := do(with(ctx, token))
	if l.member.cfg.Username == "" || !tokenRefused(err) {
		return err
	}
	renewed, renewErr := l.renew(ctx, token)
	if renewErr != nil {
		return err // why the call failed; the next one asks for a token again
	}
	return do(with(ctx, renewed))
}

// with returns ctx with the token, "" for none, and without what would stand for another user.
func with(ctx context.Context, token string) context.Context {
	if p, ok := peer.FromContext(ctx); ok && p.AuthInfo != nil {
		ctx = peer.NewContext(ctx, &peer.Peer{})
	}
	if token != "" {
		return metadata.NewIncomingContext(ctx, metadata.Pairs(rpctypes.TokenFieldNameGRPC, token))
	}
	for _, field := range []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		if metadata.ValueFromIncomingContext(ctx, field) != nil {
			return metadata.NewIncomingContext(ctx, nil)
		}
	}
	return ctx
}

func (l *login) current() string {
	if t := l.token.Load(); t != nil {
		return *t
	}
	return ""
}

// renew asks for a token in place of old, unless another call has just done so. It takes as long as a password's check, and as etcd without a leader;
// nobody waits for it longer than ctx.
func (l *login) renew(ctx context.Context, old string) (string, error) {
	select {
	case l.renewing <- struct{}{}:
		defer func() { <-l.renewing }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if token := l.current(); token != old {
		return token, nil
	}
	r, err := l.member.server.etcd.Server.Authenticate(ctx, &pb.AuthenticateRequest{Name: l.member.cfg.Username, Password: l.member.cfg.Password})
	if err != nil {
		return "", err
	}
	l.token.Store(&r.Token)
	return r.Token, nil
}

// tokenRefused reports whether another token may help. A token becomes old with every change of a user or a role.
func tokenRefused(err error) bool {
	if err == nil {
		return false
	}
	text := status.Convert(err).Message()
	for _, refusal := range []error{rpctypes.ErrGRPCUserEmpty, rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCAuthOldRevision} {
		if text == rpctypes.ErrorDesc(refusal) {
			return true
		}
	}
	return false
}

func called[A, R any](ctx context.Context, l *login, do func(context.Context, A, ...grpc.CallOption) (R, error), request A, opts []grpc.CallOption) (reply R, err error) {
	err = l.call(ctx, func(ctx context.Context) error {
		reply, err = do(ctx, request, opts...)
		return err
	})
	return reply, err
}

// kvWithLogin is the KV API as the user. What it does not name streams, which nobody in this process uses.
type kvWithLogin struct {
	pb.KVClient
	login *login
}

func (k kvWithLogin) Range(ctx context.Context, r *pb.RangeRequest, opts ...grpc.CallOption) (*pb.RangeResponse, error) {
	return called(ctx, k.login, k.KVClient.Range, r, opts)
}

func (k kvWithLogin) Put(ctx context.Context, r *pb.PutRequest, opts ...grpc.CallOption) (*pb.PutResponse, error) {
	return called(ctx, k.login, k.KVClient.Put, r, opts)
}

func (k kvWithLogin) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest, opts ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	return called(ctx, k.login, k.KVClient.DeleteRange, r, opts)
}

func (k kvWithLogin) Txn(ctx context.Context, r *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	return called(ctx, k.login, k.KVClient.Txn, r, opts)
}

func (k kvWithLogin) Compact(ctx context.Context, r *pb.CompactionRequest, opts ...grpc.CallOption) (*pb.CompactionResponse, error) {
	return called(ctx, k.login, k.KVClient.Compact, r, opts)
}

// leaseWithLogin is the Lease API as the user. Renewals need no login.
type leaseWithLogin struct {
	pb.LeaseClient
	login *login
}

func (c leaseWithLogin) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest, opts ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	return called(ctx, c.login, c.LeaseClient.LeaseGrant, r, opts)
}

func (c leaseWithLogin) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest, opts ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	return called(ctx, c.login, c.LeaseClient.LeaseRevoke, r, opts)
}

func (c leaseWithLogin) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest, opts ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
	return called(ctx, c.login, c.LeaseClient.LeaseTimeToLive, r, opts)
}

func (c leaseWithLogin) LeaseLeases(ctx context.Context, r *pb.LeaseLeasesRequest, opts ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
	return called(ctx, c.login, c.LeaseClient.LeaseLeases, r, opts)
}

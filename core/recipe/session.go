package recipe

import (
	"context"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/core"
)

// The metadata that a host adds to a call with a session, and strips from what
// callers send.
const (
	MetaSession   = "conclave-session"   // the session's id
	MetaLease     = "conclave-lease"     // its lease, in hexadecimal
	MetaTTL       = "conclave-ttl"       // the lease's time to live, in seconds
	MetaOwner     = "conclave-owner"     // the owner's label, percent-encoded as in a URL's query
	MetaNamespace = "conclave-namespace" // the session's namespace
	MetaIdentity  = "conclave-identity"  // who called; empty while authentication is off
)

// A Caller is who called, as the host found out.
type Caller struct {
	Session   string // the session's id
	Lease     clientv3.LeaseID
	TTL       time.Duration
	Owner     string
	Namespace string
	Identity  string
}

// CallerFrom returns the caller of the call that ctx belongs to; ok is false
// for a call without a session.
func CallerFrom(ctx context.Context) (c Caller, ok bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	lease, err := strconv.ParseInt(first(md, MetaLease), 16, 64)
	if err != nil || lease == 0 {
		return Caller{}, false
	}
	seconds, err := strconv.ParseInt(first(md, MetaTTL), 10, 64)
	if err != nil || seconds <= 0 {
		return Caller{}, false
	}
	return Caller{Session: first(md, MetaSession), Lease: clientv3.LeaseID(lease), TTL: time.Duration(seconds) * time.Second,
		Owner: unescape(first(md, MetaOwner)), Namespace: first(md, MetaNamespace), Identity: first(md, MetaIdentity)}, true
}

// Session returns the session of the call that ctx belongs to, borrowed from its
// owner: it attaches keys to the caller's lease, never renews or revokes it, and
// ends when the lease does. Calls of one caller share it. The error is a status
// with the reason invalid_session_id if the call has no session.
func Session(ctx context.Context, env Env) (*core.Session, error) {
	c, ok := CallerFrom(ctx)
	if !ok {
		return nil, Errorf(codes.InvalidArgument, "invalid_session_id", "session_id: is empty; open a session first")
	}
	if env.lender == nil {
		return nil, fmt.Errorf("recipe %s: its Env was not made by NewEnv", env.Instance)
	}
	return env.lender.Session(core.Loan{Lease: c.Lease, TTL: c.TTL, Owner: c.Owner, Namespace: c.Namespace, Log: env.Log})
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

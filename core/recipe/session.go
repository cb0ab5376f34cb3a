package recipe

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/incall"
	"github.com/conclavehq/conclave/internal/keyspace"
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

// DefaultNamespace is the namespace of callers who name none.
const DefaultNamespace = "default"

// A Caller is who called, as the host found out.
type Caller struct {
	Session   string           // the session's id
	Lease     clientv3.LeaseID // which the session's owner keeps alive
	TTL       time.Duration    // of the lease, in whole seconds
	Owner     string           // a label for people; it proves nothing
	Namespace string           // the session's
	Identity  string           // who logged in; empty while authentication is off
}

// CallerFrom returns the caller of the call that ctx belongs to; ok is false
// for a call without a session.
func CallerFrom(ctx context.Context) (c Caller, ok bool) {
	md := incall.Metadata(ctx)
	l, ok := loanFrom(md)
	if !ok {
		return Caller{}, false
	}
	return Caller{Session: first(md, MetaSession), Lease: l.Lease, TTL: l.TTL, Owner: l.Owner, Namespace: l.Namespace,
		Identity: first(md, MetaIdentity)}, true
}

// loanFrom returns what a session is borrowed by; ok is false for a call without
// one.
func loanFrom(md metadata.MD) (l core.Loan, ok bool) {
	lease, err := strconv.ParseInt(first(md, MetaLease), 16, 64)
	if err != nil || lease == 0 {
		return core.Loan{}, false
	}
	seconds, err := strconv.ParseInt(first(md, MetaTTL), 10, 64)
	if err != nil || seconds <= 0 {
		return core.Loan{}, false
	}
	return core.Loan{Lease: clientv3.LeaseID(lease), TTL: time.Duration(seconds) * time.Second,
		Owner: unescape(first(md, MetaOwner)), Namespace: first(md, MetaNamespace)}, true
}

// Metadata returns c as the metadata from which [CallerFrom] reads it, for hosts
// and for tests that stand in for one.
func (c Caller) Metadata() metadata.MD {
	return metadata.MD{
		MetaSession:   {c.Session},
		MetaLease:     {strconv.FormatInt(int64(c.Lease), 16)},
		MetaTTL:       {strconv.FormatInt(int64(c.TTL/time.Second), 10)},
		MetaOwner:     {url.QueryEscape(c.Owner)},
		MetaNamespace: {c.Namespace},
		MetaIdentity:  {c.Identity},
	}
}

// Session returns the session of the call that ctx belongs to, borrowed from its
// owner: it attaches keys to the caller's lease, never renews or revokes it, and
// ends when the lease does. Calls of one caller share it. The error is a status:
// invalid_session_id if the call has no session, recipe_restarting while the
// recipe stops.
func Session(ctx context.Context, env Env) (*core.Session, error) {
	loan, ok := loanFrom(incall.Metadata(ctx))
	if !ok {
		return nil, Errorf(codes.InvalidArgument, "invalid_session_id", "session_id: is empty; open a session first")
	}
	if env.lender == nil {
		return nil, fmt.Errorf("recipe %s: its Env was not made by NewEnv", env.Instance)
	}
	loan.Log = env.Log
	s, err := env.lender.Session(loan)
	if err != nil {
		return nil, Status(err)
	}
	return s, nil
}

// Namespace returns the namespace that a call is about: the one that its request
// names, "default" if it names none. The error is a status with the reason
// invalid_namespace, if there can be no such namespace or the call has a session
// in another one.
func Namespace(ctx context.Context, requested string) (string, error) {
	if requested == "" {
		requested = DefaultNamespace
	}
	if err := keyspace.CheckNamespace("namespace", requested); err != nil {
		return "", invalid(err)
	}
	if incall.Value(ctx, MetaNamespace) == requested { // as a rule: no need to read the rest
		return requested, nil
	}
	if c, ok := CallerFrom(ctx); ok {
		return "", Errorf(codes.InvalidArgument, "invalid_namespace", "namespace: is %q, and the session's is %q", requested, c.Namespace)
	}
	return requested, nil
}

// first returns the first value of a key, or "".
func first(md metadata.MD, key string) string {
	if v := md[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s // as most are
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

package scope

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// kind is what a refused request wanted.
type kind int

const (
	allowed kind = iota
	kindRange
	kindPut
	kindDelete
	kindCompare
	kindWatch
	kindCompact
	kindLeaseID
	kindRevoke
	kindKeepAlive
	kindLeaseKeys
	kindMembers
	kindCluster
	kindAuth
	kindMaintenance
	kindUnknown
	kinds
)

// String returns the kind's name in logs and counts.
func (k kind) String() string {
	return [kinds]string{
		"allowed", "range", "put", "delete", "compare", "watch", "compact", "lease_id", "lease_revoke", "lease_keep_alive",
		"lease_keys", "member_list", "cluster", "auth", "maintenance", "unknown",
	}[k]
}

// errRefused is the one error that a recipe sees, in the form in which etcd's
// client recognises it.
var errRefused = rpctypes.ErrGRPCPermissionDenied

// refusals counts what was refused, and logs each kind once: a recipe that
// tries something tries it often. It names no keys.
type refusals struct {
	log   *slog.Logger
	count [kinds]atomic.Uint64
}

// note counts a refusal and returns the error for it.
func (r *refusals) note(k kind) error {
	if r.count[k].Add(1) == 1 {
		r.log.Log(context.Background(), k.level(),
			"the recipe tried something outside its own keys and leases, and was refused; further tries are only counted", "kind", k.String())
	}
	return errRefused
}

// level says how remarkable a refusal is. Every session that is opened asks for
// the members, and lives without an answer.
func (k kind) level() slog.Level {
	if k == kindMembers {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// check is note for what is not allowed, and nil for what is.
func (r *refusals) check(k kind) error {
	if k == allowed {
		return nil
	}
	return r.note(k)
}

func (r *refusals) counts() map[string]uint64 {
	counts := make(map[string]uint64)
	for k := range kinds {
		if n := r.count[k].Load(); n > 0 {
			counts[k.String()] = n
		}
	}
	return counts
}

// refuser is a connection on which every call is refused.
type refuser struct{ refusals *refusals }

// Invoke refuses a call.
func (r refuser) Invoke(_ context.Context, method string, _, _ any, _ ...grpc.CallOption) error {
	return r.refusals.note(kindOf(method))
}

// NewStream refuses a stream.
func (r refuser) NewStream(_ context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, r.refusals.note(kindOf(method))
}

// kindOf returns the kind of a method of etcd's API, "/package.Service/Method".
func kindOf(method string) kind {
	if method == pb.Cluster_MemberList_FullMethodName {
		return kindMembers
	}
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	switch service {
	case "etcdserverpb.Cluster":
		return kindCluster
	case "etcdserverpb.Auth":
		return kindAuth
	case "etcdserverpb.Maintenance":
		return kindMaintenance
	default:
		return kindUnknown
	}
}

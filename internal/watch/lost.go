package watch

import (
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Reason says why a watch ended.
type Reason string

// The reasons. None of them says anything about the watched keys.
const (
	// Compacted: events that the watch had still to deliver are gone from etcd.
	Compacted Reason = "compacted"
	// NoLeader: the member that served the watch has no leader.
	NoLeader Reason = "no leader"
	// Auth: etcd refuses the watch, for its token or for its permission.
	Auth Reason = "not permitted"
	// Closed: the client was closed.
	Closed Reason = "closed"
	// Failed: anything else that ended the stream.
	Failed Reason = "failed"
)

// LostError is the end of a watch that nobody asked for.
type LostError struct {
	Key    string // key or prefix that was watched
	Reason Reason
	// CompactRevision is the oldest revision that etcd still has, or 0 if the
	// reason is not Compacted.
	CompactRevision int64
	Err             error // what etcd said, or nil
}

// Error names the key and the reason.
func (e *LostError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("watch %q: %s", e.Key, e.Reason)
	}
	return fmt.Sprintf("watch %q: %s: %v", e.Key, e.Reason, e.Err)
}

// Unwrap returns what etcd said, such as rpctypes.ErrCompacted.
func (e *LostError) Unwrap() error { return e.Err }

// lost translates the last response of a watch; none stands for a channel that
// was closed without one.
func lost(key string, resp clientv3.WatchResponse) *LostError {
	err := etcdError(resp.Err())
	e := &LostError{Key: key, Err: err, Reason: Failed, CompactRevision: resp.CompactRevision}
	switch {
	case err == nil:
		e.Reason = Closed
	case errors.Is(err, rpctypes.ErrCompacted):
		e.Reason = Compacted
	case errors.Is(err, rpctypes.ErrNoLeader):
		e.Reason = NoLeader
	case refusedToken(err), errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty):
		e.Reason = Auth
	}
	return e
}

// etcdError gives a watch's error the identity that the same error of a unary
// call has: etcd sends the reason of a cancelled watch as the printed form of a
// gRPC status, which clientv3 does not recognise.
func etcdError(err error) error {
	if err == nil {
		return nil
	}
	_, reason, printed := strings.Cut(rpctypes.ErrorDesc(err), " desc = ")
	if !printed {
		return rpctypes.Error(err)
	}
	known := rpctypes.Error(errors.New(reason))
	if _, ok := errors.AsType[rpctypes.EtcdError](known); ok {
		return known
	}
	return err
}

// refusedToken reports whether a fresh stream, which brings a fresh token, is
// the answer to err.
func refusedToken(err error) bool {
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrAuthOldRevision)
}

package core

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
)

const (
	defaultTTL = 15 * time.Second
	// minTTLOne and minTTLMany are the floors for one member and for several.
	// When a leader is isolated a follower forwards renewals to it for up to
	// 7 s: of sessions with 8 s and less some were lost, with 10 s none.
	minTTLOne  = 5 * time.Second
	minTTLMany = 10 * time.Second
	maxTTL     = time.Hour
	maxOwner   = 255
)

// A SessionOption sets up a session.
type SessionOption func(*options)

type options struct {
	ttl       time.Duration
	ttlSet    bool
	owner     string
	namespace string
	log       *slog.Logger
	lease     clientv3.LeaseID
}

// WithTTL sets the time that etcd keeps the session's keys without a renewal:
// whole seconds, from 5 s (one member) or 10 s (several) to 1 h. The default is
// 15 s. A value that etcd would change silently is [ErrInvalid].
func WithTTL(d time.Duration) SessionOption {
	return func(o *options) { o.ttl, o.ttlSet = d, true }
}

// WithOwner names the owner in records and messages, at most 255 bytes of
// UTF-8. The default is the host's name and the process id.
func WithOwner(name string) SessionOption { return func(o *options) { o.owner = name } }

// WithNamespace sets the namespace of the keys that recipes write with this
// session. The default is "default".
func WithNamespace(ns string) SessionOption { return func(o *options) { o.namespace = ns } }

// WithLogger sets the logger. The default is silent.
func WithLogger(l *slog.Logger) SessionOption { return func(o *options) { o.log = l } }

// WithLease resumes a lease that [Session.Orphan] left behind instead of
// granting one. The lease must still stand, else NewSession returns
// [ErrSessionExpired]. Its TTL is kept; a different [WithTTL] is [ErrInvalid].
func WithLease(id clientv3.LeaseID) SessionOption { return func(o *options) { o.lease = id } }

func newOptions(opts []SessionOption) (options, error) {
	o := options{ttl: defaultTTL, namespace: "default", log: slog.New(slog.DiscardHandler)}
	for _, opt := range opts {
		opt(&o)
	}
	if o.owner == "" {
		o.owner = defaultOwner()
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	for _, err := range []error{
		keyspace.CheckText("owner", o.owner, maxOwner),
		keyspace.CheckNamespace("namespace", o.namespace),
	} {
		if err != nil {
			return o, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return o, checkTTL(o.ttl, minTTLOne)
}

func checkTTL(ttl, least time.Duration) error {
	switch {
	case ttl < least || ttl > maxTTL:
		return fmt.Errorf("%w: ttl: %v is outside %v to %v", ErrInvalid, ttl, least, maxTTL)
	case ttl%time.Second != 0:
		return fmt.Errorf("%w: ttl: %v is not a whole number of seconds", ErrInvalid, ttl)
	}
	return nil
}

func defaultOwner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%.200s-%d", host, os.Getpid())
}

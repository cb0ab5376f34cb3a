package recipe

import (
	"context"
	"log/slog"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// A Recipe makes instances of itself. It holds no state: a host may open it,
// close the instance and open it again, and may have two instances at once, for
// instance while it exchanges one version for the next.
type Recipe interface {
	// Info describes the recipe. It has no side effects, does no I/O, and
	// answers alike every time, also when nothing will be opened.
	Info() Info
	// Open starts an instance and registers its services with reg. The ctx
	// bounds the opening only; what the instance runs in the background ends
	// with Close. Services that are registered after Open returned are refused.
	// After an error nothing that was registered is served, nothing may be left
	// running, and Open may be called again.
	Open(ctx context.Context, env Env, reg grpc.ServiceRegistrar) (Instance, error)
}

// A Validator is a [Recipe] that knows limits of its configuration which the
// message's types do not have. Hosts ask before they start anything, so that a
// mistake is told at once; Open refuses the same configurations.
type Validator interface {
	// Validate returns what is wrong with a configuration, of the type of
	// Info.Config: the field, as in history_endings, and its limit. It does no I/O
	// and does not change config.
	Validate(config proto.Message) error
}

// An Instance is a running recipe. It may be a [Checker], a [Collector], a
// [Drainer] or a [Reporter] too.
type Instance interface {
	// Close ends what the instance runs and waits for it, until ctx ends. What
	// callers own stays theirs: it is bound to their sessions, and the next
	// instance, here or at another host, finds it in etcd. Close is idempotent,
	// and is called also when the instance's work has failed.
	Close(ctx context.Context) error
}

// Info describes a recipe.
type Info struct {
	Name    string        // also the segment of its keys: lower-case letters, digits and hyphens, beginning with a letter
	Version string        // semantic, without a leading v
	Summary string        // one line
	Config  proto.Message // the prototype of its configuration; nil: it takes none
}

// Env is what a recipe is given.
type Env struct {
	// Instance is the name under which the recipe runs, and the segment of its
	// keys: Info.Name unless the operator chose another.
	Instance string
	// Client reaches etcd. It may touch the instance's own keys, which [Env.Key]
	// and [Env.Keys] begin, in any namespace; attach them to the leases of
	// callers and ask how long any lease lives; and grant, renew and revoke
	// leases of its own. Everything else is refused with etcd's permission
	// denied. A range lies within one namespace. It has neither endpoints nor a
	// connection of its own, and ends after the instance was closed. Keys and values
	// that its watches tell may be shared with others who watch: read them only.
	Client *clientv3.Client
	// Config is the configuration, of the type of Info.Config; nil if that is.
	Config proto.Message
	// Log is the recipe's logger. Log names, never values.
	Log *slog.Logger

	lender  *core.Lender
	carrier Carrier
}

// NewEnv returns an Env with which [Session] works. Hosts and test kits make
// it, and close it; a recipe is given it. A nil log is silent.
func NewEnv(instance string, c *clientv3.Client, config proto.Message, log *slog.Logger) Env {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return Env{Instance: instance, Client: c, Config: config, Log: log, lender: core.NewLender(c)}
}

// Close ends the sessions that [Session] made, for whoever made the Env; what
// they own stands in etcd. It is called after the instance was closed.
func (e Env) Close() {
	if e.lender != nil {
		e.lender.Close()
	}
}

// Keys returns the range of all of the instance's keys in a namespace: every key
// k with start <= k < end. The error has the reason invalid_namespace.
func (e Env) Keys(namespace string) (start, end string, err error) {
	if err := keyspace.CheckNamespace("namespace", namespace); err != nil {
		return "", "", invalid(err)
	}
	start = keyspace.RecipePrefix(namespace, e.Instance)
	return start, keyspace.End(start), nil
}

// Key returns the beginning of the keys that belong to one name in a namespace,
// with a delimiter at its end: append to it. Both are escaped reversibly, and no
// name's keys begin as those of another name do. A name is 1 to 8 segments
// joined by "/", each 1 to 255 bytes, at most 1,024 bytes in all. The error has
// the reason invalid_namespace or invalid_name.
func (e Env) Key(namespace, name string) (string, error) {
	if err := keyspace.CheckNamespace("namespace", namespace); err != nil {
		return "", invalid(err)
	}
	if err := keyspace.CheckName("name", name); err != nil {
		return "", invalid(err)
	}
	return keyspace.Prefix(namespace, e.Instance, name), nil
}

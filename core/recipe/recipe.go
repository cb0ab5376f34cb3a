// Package recipe is the contract between a recipe and whatever runs it: a host,
// in its own process or in a subprocess, or a test.
//
// A recipe is a gRPC service and an etcd client: it registers the one and is
// given the other. Nothing else of Conclave leaks into it.
package recipe

import (
	"context"
	"log/slog"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core"
)

// A Recipe makes instances of itself. Its life:
//
//  1. Info is called, any number of times, also when nothing will be opened.
//  2. Open registers services and returns an instance, or an error; after an
//     error nothing that it registered is served, and Open may be called again.
//  3. The registered services get calls, from Open's return on.
//  4. Close is called once no new call arrives; calls may still be under way.
type Recipe interface {
	// Info describes the recipe. It has no side effects.
	Info() Info
	// Open starts an instance. The ctx bounds the opening only. Services that
	// are registered after it returned are refused.
	Open(ctx context.Context, env Env, reg grpc.ServiceRegistrar) (Instance, error)
}

// An Instance is a running recipe.
type Instance interface {
	// Close ends what the instance runs. It is idempotent, and is called also
	// when its work has failed.
	Close(ctx context.Context) error
}

// Info describes a recipe.
type Info struct {
	Name    string        // also the second segment of its keys: lower-case letters, digits and hyphens
	Version string        // semantic, without a leading v
	Summary string        // one line
	Config  proto.Message // the prototype of its configuration; nil: it takes none
}

// Env is what a recipe is given.
type Env struct {
	// Instance is the name under which the recipe runs, and the segment of its
	// keys: Info.Name unless the operator chose another.
	Instance string
	// Client reaches etcd. It may touch the instance's own keys and attach them
	// to the leases of callers, and is refused everything else.
	Client *clientv3.Client
	// Config is the configuration, of the type of Info.Config.
	Config proto.Message
	// Log is the recipe's logger.
	Log *slog.Logger

	lender *core.Lender
}

// NewEnv returns an Env with which [Session] works. Hosts and test kits make
// it; a recipe is given it.
func NewEnv(instance string, c *clientv3.Client, config proto.Message, log *slog.Logger) Env {
	return Env{Instance: instance, Client: c, Config: config, Log: log, lender: core.NewLender(c)}
}

// Close ends the sessions that [Session] made, for whoever made the Env; what
// they own stands in etcd. It is called after the instance was closed.
func (e Env) Close() {
	if e.lender != nil {
		e.lender.Close()
	}
}

package discovery

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/discovery/dnsserver"
)

// name is the recipe's name and the segment of its keys, which it shares with
// the library.
const name = "discovery"

// Recipe serves conclave.discovery.v1.DiscoveryService, and DNS if it is
// configured to. The zero value is ready.
type Recipe struct {
	// Directory answers in this process too, if it is not nil.
	Directory *Directory
}

var (
	_ recipe.Recipe    = Recipe{}
	_ recipe.Validator = Recipe{}
)

// Info describes the recipe. Its configuration is a conclave.discovery.v1.Config.
func (Recipe) Info() recipe.Info {
	return recipe.Info{
		Name:    name,
		Version: "0.1.0",
		Summary: "Who offers which service, and where, for programs that come and go",
		Config:  &discoveryv1.Config{},
	}
}

// Validate implements [recipe.Validator] for a conclave.discovery.v1.Config.
func (Recipe) Validate(config proto.Message) error {
	c, _ := config.(*discoveryv1.Config) // nil stands for the defaults
	listen, domain := c.GetDnsListen(), c.GetDnsDomain()
	if listen != "" {
		if _, _, err := net.SplitHostPort(listen); err != nil {
			return fmt.Errorf("dns_listen: %.200q is not host:port", listen)
		}
	}
	if domain != "" && (strings.Trim(domain, ".") != domain || len(domain) > 200) {
		return fmt.Errorf("dns_domain: %.200q is not a domain of at most 200 bytes without dots at its ends", domain)
	}
	return nil
}

// Open registers the DiscoveryService, and begins to answer DNS. It fails for an
// instance that is not called "discovery", since users of the library would not
// meet it, and if the address for DNS is in use.
func (r Recipe) Open(ctx context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if env.Instance != name {
		return nil, fmt.Errorf("discovery: instance: is %q, but the library's keys are under %q: run it under that name", env.Instance, name)
	}
	i := &instance{env: env, directory: r.Directory}
	if c, _ := env.Config.(*discoveryv1.Config); c.GetDnsListen() != "" {
		if err := r.Validate(c); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		var err error
		i.dns, err = dnsserver.Start(ctx, dnsserver.Config{Client: env.Client, Listen: c.GetDnsListen(), Domain: c.GetDnsDomain(), Log: env.Log})
		if err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		env.Log.Info("DNS is served", "address", i.dns.Addr())
	}
	if i.directory != nil {
		i.directory.open(env.Client)
	}
	i.ctx, i.stop = context.WithCancelCause(context.Background())
	discoveryv1.RegisterDiscoveryServiceServer(reg, i)
	return i, nil
}

// An instance is a DiscoveryService that runs.
type instance struct {
	discoveryv1.UnimplementedDiscoveryServiceServer

	env       recipe.Env
	ctx       context.Context // ends with Close
	stop      context.CancelCauseFunc
	dns       *dnsserver.Server // nil: not served
	directory *Directory        // nil: nobody asks it
}

// Close ends the watches, and what is served beside calls. It is idempotent.
func (i *instance) Close(context.Context) error {
	i.stop(core.ErrSessionClosed)
	if i.directory != nil {
		i.directory.close()
	}
	if i.dns != nil {
		return i.dns.Close()
	}
	return nil
}

// reading and writing bound what a call asks of etcd: its client waits for a
// connection as long as it may. A leader's election takes about a second and a
// half; whoever writes waits longer, to find out what became of it.
const (
	reading = 5 * time.Second
	writing = 10 * time.Second
)

// bounded asks etcd within a budget, and makes the status of the error.
func bounded[T any](ctx context.Context, budget time.Duration, ask func(ctx context.Context) (T, error)) (T, error) {
	within, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	answer, err := ask(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return answer, silent(err)
	}
	return answer, status(err)
}

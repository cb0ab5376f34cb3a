package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/discovery/dnsserver"
	"github.com/conclavehq/conclave/internal/keyspace"
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
	if len(c.GetCheckNamespaces()) > maxNamespaces {
		return fmt.Errorf("check_namespaces: there are %d, the limit is %d", len(c.GetCheckNamespaces()), maxNamespaces)
	}
	for _, ns := range c.GetCheckNamespaces() {
		if err := keyspace.CheckNamespace("check_namespaces", ns); err != nil {
			return err
		}
	}
	_, err := networks(c)
	return err
}

func networks(c *discoveryv1.Config) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, n := range c.GetCheckNetworks() {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return nil, fmt.Errorf("check_networks: %.100q is no network such as 10.0.0.0/8", n)
		}
		all = append(all, p)
	}
	return all, nil
}

// Open registers the DiscoveryService, begins to answer DNS, and to carry out
// checks. It fails for an instance that is not called "discovery", since users of the library would not
// meet it, and if the address for DNS is in use.
func (r Recipe) Open(ctx context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if env.Instance != name {
		return nil, fmt.Errorf("discovery: instance: is %q, but the library's keys are under %q: run it under that name", env.Instance, name)
	}
	i := &instance{env: env, directory: r.Directory}
	c, _ := env.Config.(*discoveryv1.Config)
	if err := r.Validate(c); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if c.GetDnsListen() != "" {
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
	i.checked = make(chan struct{})
	go i.check(c)
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
	checked   chan struct{}     // closed when no more checks are carried out
}

// check carries out checks until Close.
func (i *instance) check(c *discoveryv1.Config) {
	defer close(i.checked)
	if c.GetChecksOff() {
		return
	}
	allowed, _ := networks(c) // which Validate has seen
	err := discovery.RunChecks(i.ctx, i.env.Client, discovery.WithLogger(i.env.Log),
		discovery.WithCheckNamespaces(c.GetCheckNamespaces()...), discovery.WithCheckNetworks(allowed...))
	i.env.Log.Debug("no more checks", "cause", err)
}

// Close ends the watches, the checks, and what is served beside calls. It is
// idempotent. If etcd does not answer, what this host owns of checks ends with its
// lease, and the last request with the client, which the host closes after this.
func (i *instance) Close(ctx context.Context) error {
	i.stop(core.ErrSessionClosed)
	select {
	case <-i.checked:
	case <-ctx.Done():
	}
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

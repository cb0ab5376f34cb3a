package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
	recipediscovery "github.com/conclavehq/conclave/recipes/discovery"
)

// services is the discovery API of a target.
type services = service[discoveryv1.DiscoveryServiceClient]

func (a *app) serviceCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "service",
		Short: "Register instances of services, and find them",
		Example: `  conclave service register web --addr 10.0.0.1:8080 -- ./web
  conclave service resolve web
  conclave service ls`,
	})
	cmd.AddCommand(a.serviceRegisterCommand(), a.serviceResolveCommand(), a.serviceWatchCommand(), a.serviceListCommand(), a.serviceDrainCommand(),
		a.serviceFileSDCommand())
	return cmd
}

// withServices runs work with the discovery API of the target.
func (a *app) withServices(ctx context.Context, atMost time.Duration, work func(ctx context.Context, t target, s services) error) error {
	r := standardRecipe[discoveryv1.DiscoveryServiceClient]{recipediscovery.Recipe{}, &discoveryv1.Config{ChecksOff: true}, discoveryv1.NewDiscoveryServiceClient}
	return withService(ctx, a, r, atMost, work)
}

// withNamedService is withServices for a command about one service.
func (a *app) withNamedService(ctx context.Context, name string, atMost time.Duration, work func(ctx context.Context, t target, s services) error) error {
	if err := keyspace.CheckName("name", name); err != nil {
		return usage("invalid_name", "", "%s", err)
	}
	return a.withServices(ctx, atMost, work)
}

// allServices returns every service whose name begins with prefix.
func allServices(ctx context.Context, s services, namespace, prefix string) ([]*discoveryv1.Service, error) {
	var all []*discoveryv1.Service
	req := &discoveryv1.ListRequest{Namespace: namespace, Prefix: prefix, PageSize: 1000}
	for {
		resp, err := ask(ctx, s, discoveryv1.DiscoveryServiceClient.List, req)
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetServices()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all, nil
		}
	}
}

func noService(name string) *Error {
	return &Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found", Message: fmt.Sprintf("service %q: nobody is registered", name),
		Hint: "see what is with: conclave service ls"}
}

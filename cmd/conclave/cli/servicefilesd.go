package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/internal/keyspace"
	recipediscovery "github.com/conclavehq/conclave/recipes/discovery"
)

// lookForServices is how often new services are looked for, if all are wanted.
const lookForServices = 5 * time.Second

func (a *app) serviceFileSDCommand() *cobra.Command {
	f := fileSD{app: a}
	var path string
	cmd := &cobra.Command{
		Use:   "file-sd --output FILE [NAME...]",
		Short: "Keep a file of targets for Prometheus",
		Long: `file-sd writes the instances that can be sent to into FILE, as the file_sd of Prometheus
reads it, and writes it again with every change, until a signal ends it. Without NAME it
is about all services of the namespace. FILE ends in .json, .yml or .yaml; what is written
is JSON, which is YAML too. Labels begin with __meta_conclave_, as of /sd/prometheus.

The file is replaced in one step, and only when its content changes. While hosts or etcd are
away, or most instances of a service have vanished at once, it stays as it is: it is never
emptied because nothing is known. With --once it is written once, or the exit code says
why it could not be.`,
		Example: `  conclave service file-sd --output /etc/prometheus/targets/conclave.json
  conclave service file-sd --output targets.json --once web api`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(path, args); err != nil {
				return err
			}
			ctx, restore := signal.NotifyContext(cmd.Context(), ending()...)
			defer restore()
			atMost := time.Duration(0)
			if f.once {
				atMost = answering
			}
			err := a.withServices(ctx, atMost, f.run)
			if ctx.Err() != nil && cmd.Context().Err() == nil {
				return nil // interrupted, which is how it ends
			}
			return err
		},
	}
	cmd.Flags().StringVar(&path, "output", "", "the file, which ends in .json, .yml or .yaml (required)")
	cmd.Flags().BoolVar(&f.once, "once", false, "write it once, and end")
	return cmd
}

// A fileSD is `service file-sd`.
type fileSD struct {
	*app
	out   output
	once  bool
	names []string // none: all

	namespace string
	s         services
	news      chan *discoveryv1.WatchResponse
	following sync.WaitGroup

	// Of one goroutine.
	known  map[string]*discoveryv1.WatchResponse // by service; nil: not yet
	listed bool                                  // all services are known by name
	told   bool                                  // that the file stays as it is
}

func (f *fileSD) check(path string, names []string) error {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".json", ".yml", ".yaml":
	default:
		return usage("invalid_output", "such as --output targets.json", "--output: %q does not end in .json, .yml or .yaml", path)
	}
	for _, name := range names {
		if err := keyspace.CheckName("name", name); err != nil {
			return usage("invalid_name", "", "%s", err)
		}
	}
	f.out, f.names = output{path: path, mode: 0o644}, names
	return nil
}

func (f *fileSD) run(ctx context.Context, t target, s services) error {
	f.namespace, f.s = f.app.namespace(t), s
	if f.once {
		return f.writeOnce(ctx)
	}
	if err := s.Reach(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer f.following.Wait()
	defer cancel()
	f.news, f.known = make(chan *discoveryv1.WatchResponse), make(map[string]*discoveryv1.WatchResponse)
	for _, name := range f.names {
		f.follow(ctx, name)
	}
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case resp := <-f.news:
			f.known[resp.GetName()] = resp
		case <-look.C:
			look.Reset(lookForServices)
			f.look(ctx)
		}
		if err := f.update(); err != nil {
			return err
		}
	}
}

// writeOnce asks for everything as etcd has it now.
func (f *fileSD) writeOnce(ctx context.Context) error {
	names := f.names
	if len(names) == 0 {
		all, err := allServices(ctx, f.s, f.namespace, "")
		if err != nil {
			return err
		}
		for _, s := range all {
			names = append(names, s.GetName())
		}
	}
	var all []*discoveryv1.Instance
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		resp, err := ask(ctx, f.s, discoveryv1.DiscoveryServiceClient.Resolve, &discoveryv1.ResolveRequest{Namespace: f.namespace, Name: name})
		if err != nil {
			return err
		}
		if resp.GetStale() {
			return fmt.Errorf("service %q: what is known of it is out of date", name)
		}
		all = append(all, resp.GetInstances()...)
	}
	return f.write(all)
}

// look finds services that are new, if all are wanted, and forgets those that
// are gone for certain.
func (f *fileSD) look(ctx context.Context) {
	if len(f.names) > 0 {
		f.listed = true
		return
	}
	within, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	all, err := allServices(within, f.s, f.namespace, "")
	if err != nil {
		return // it is asked again, and the file stays
	}
	f.listed = true
	for _, s := range all {
		if _, known := f.known[s.GetName()]; !known {
			f.follow(ctx, s.GetName())
		}
	}
}

// follow follows a service, at one host after the other, until ctx ends.
func (f *fileSD) follow(ctx context.Context, name string) {
	f.known[name] = nil
	f.following.Go(func() {
		for wait := askAgain; ctx.Err() == nil; wait = min(2*wait, askAgainMost) {
			err := f.s.Do(ctx, func(cc grpc.ClientConnInterface) error {
				stream, err := f.s.client(cc).Watch(ctx, &discoveryv1.WatchRequest{Namespace: f.namespace, Name: name})
				for err == nil {
					var resp *discoveryv1.WatchResponse
					if resp, err = stream.Recv(); err == nil {
						wait = askAgain
						f.tell(ctx, resp)
					}
				}
				return err
			})
			if ctx.Err() == nil {
				f.note(fmt.Sprintf("service %q: %s", name, oneLine(err)))
			}
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
	})
}

func (f *fileSD) tell(ctx context.Context, resp *discoveryv1.WatchResponse) {
	select {
	case f.news <- resp:
	case <-ctx.Done():
	}
}

// update writes the file if everything is known for certain.
func (f *fileSD) update() error {
	certain, stale := f.listed, ""
	var all []*discoveryv1.Instance
	for _, name := range slices.Sorted(maps.Keys(f.known)) {
		resp := f.known[name]
		if resp.GetStale() {
			stale = name
		}
		if certain = certain && resp != nil && stale == ""; !certain {
			break
		}
		all = append(all, resp.GetInstances()...)
	}
	if !certain {
		if stale != "" && !f.told {
			f.told = true
			f.note(fmt.Sprintf("%s stays as it is: what is known of service %q may be out of date", f.out.path, stale))
		}
		return nil
	}
	f.told = false
	return f.write(all)
}

// write replaces the file if its content is another.
func (f *fileSD) write(all []*discoveryv1.Instance) error {
	instances := make([]discovery.Instance, 0, len(all))
	for _, i := range all {
		instances = append(instances, discovery.Instance{Service: i.GetService(), ID: i.GetId(), Addr: i.GetAddr(), Metadata: i.GetMetadata(), Tags: i.GetTags(),
			Zone: i.GetZone(), Version: i.GetVersion(), State: discovery.State(i.GetState())})
	}
	content, err := json.MarshalIndent(recipediscovery.TargetGroups(f.namespace, instances), "", "  ")
	if err != nil {
		return err
	}
	content = append(content, '\n')
	same, err := f.out.has(content)
	if err != nil || same {
		return err
	}
	c, err := f.out.prepare(content)
	if err != nil {
		return err
	}
	if err := c.commit(); err != nil {
		c.drop()
		return errors.Join(fmt.Errorf("%s could not be replaced", f.out.path), err)
	}
	f.note(fmt.Sprintf("%s: %d targets", f.out.path, len(instances)))
	return nil
}

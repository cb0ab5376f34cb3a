package cli

import (
	"context"
	"fmt"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// instanceView is an instance as `service resolve` prints it. A token is text:
// programs that read numbers as floating point would round it.
type instanceView struct {
	Service  string            `json:"service"`
	ID       string            `json:"id"`
	Addr     string            `json:"addr"`
	State    string            `json:"state"`
	Weight   int32             `json:"weight"`
	Zone     string            `json:"zone"`
	Version  string            `json:"version"`
	Tags     []string          `json:"tags"`
	Metadata map[string]string `json:"metadata"`
	Owner    string            `json:"owner"`
	Token    string            `json:"token"`
	Since    *time.Time        `json:"since"`
	Checks   []string          `json:"checks,omitempty"` // URLs that hosts look at
	Health   *healthView       `json:"health,omitempty"`
}

// healthView is what hosts found.
type healthView struct {
	States []string   `json:"states"`
	Why    string     `json:"why"`
	By     string     `json:"by"`
	At     *time.Time `json:"at"`
}

// serviceView is what is known of a service.
type serviceView struct {
	Service   string         `json:"service,omitempty"` // in a stream
	Revision  int64          `json:"revision"`
	Stale     bool           `json:"stale"`
	Kept      int32          `json:"kept,omitempty"`
	Instances []instanceView `json:"instances"`
	Others    []instanceView `json:"others"`
}

// A state is what a message says of a service.
type state interface {
	GetRevision() int64
	GetStale() bool
	GetInstances() []*discoveryv1.Instance
	GetOthers() []*discoveryv1.Instance
}

func serviceViewOf(s state) serviceView {
	return serviceView{Revision: s.GetRevision(), Stale: s.GetStale(), Instances: instanceViews(s.GetInstances()), Others: instanceViews(s.GetOthers())}
}

func instanceViews(all []*discoveryv1.Instance) []instanceView {
	views := []instanceView{}
	for _, i := range all {
		v := instanceView{Service: i.GetService(), ID: i.GetId(), Addr: i.GetAddr(), State: i.GetState(), Weight: i.GetWeight(), Zone: i.GetZone(),
			Version: i.GetVersion(), Tags: i.GetTags(), Metadata: i.GetMetadata(), Owner: i.GetOwner(), Token: tokenText(i.GetToken()), Since: timeOf(i.GetSince())}
		if v.Tags == nil {
			v.Tags = []string{}
		}
		if v.Metadata == nil {
			v.Metadata = map[string]string{}
		}
		for _, c := range i.GetChecks() {
			v.Checks = append(v.Checks, c.GetUrl())
		}
		if h := i.GetHealth(); h != nil {
			v.Health = &healthView{States: h.GetStates(), Why: h.GetWhy(), By: h.GetBy(), At: timeOf(h.GetAt())}
		}
		views = append(views, v)
	}
	return views
}

func (a *app) instanceRows(views ...[]instanceView) [][]string {
	rows := [][]string{}
	for _, all := range views {
		for _, v := range all {
			since := "-"
			if v.Since != nil {
				since = v.Since.Format(time.RFC3339)
				if isTerminal(a.stdout) {
					since = ago(time.Since(*v.Since))
				}
			}
			rows = append(rows, []string{clean(v.ID), clean(v.Addr), v.State, strconv.Itoa(int(v.Weight)), clean(v.Zone), clean(v.Version), since, clean(v.Owner)})
		}
	}
	return rows
}

// A choice is how `service resolve` picks one instance.
type choice struct{ strategy, key, zone string }

// strategies are the values of --strategy.
var strategies = []string{"round-robin", "random", "weighted", "p2c", "sticky", "rendezvous"}

func (c choice) options() ([]discovery.PickOption, error) {
	var how discovery.PickOption
	switch c.strategy {
	case "round-robin":
		how = discovery.RoundRobin()
	case "random":
		how = discovery.Random()
	case "weighted":
		how = discovery.Weighted()
	case "p2c":
		how = discovery.LeastOfTwo()
	case "sticky", "rendezvous": // of one call each is as good as the other
		if c.key == "" {
			return nil, usage("invalid_key", "such as --key user-42", "--strategy %s: --key is missing: it says what stays with one instance", c.strategy)
		}
		how = discovery.Rendezvous(c.key)
	default:
		return nil, usage("invalid_strategy", didYouMean(c.strategy, strategies, ""), "--strategy: %q is not one of %s", c.strategy, strings.Join(strategies, ", "))
	}
	if c.zone != "" {
		return []discovery.PickOption{how, discovery.PreferZone(c.zone)}, nil
	}
	return []discovery.PickOption{how}, nil
}

// pick leaves one of the instances.
func (c choice) pick(name string, v *serviceView) error {
	opts, err := c.options()
	if err != nil {
		return err
	}
	s := discovery.Snapshot{Service: name}
	for _, i := range v.Instances {
		s.Instances = append(s.Instances, discovery.Instance{ID: i.ID, Weight: int(i.Weight), Zone: i.Zone})
	}
	one, err := s.Pick(opts...)
	if err != nil {
		return &Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found", cause: err,
			Message: fmt.Sprintf("service %q: none of its %d instances can be sent to", name, len(v.Others)),
			Hint:    "see them with: conclave service resolve " + quoted(name)}
	}
	for _, i := range v.Instances {
		if i.ID == one.ID {
			v.Instances = []instanceView{i}
			break
		}
	}
	v.Others = []instanceView{}
	return nil
}

func (a *app) serviceResolveCommand() *cobra.Command {
	var c choice
	cmd := &cobra.Command{
		Use:   "resolve NAME",
		Short: "Tell where a service can be reached",
		Long: `resolve lists the instances of service NAME, as etcd has them now: first those that can
be sent to (passing or warning), then the others. With --strategy it chooses one of the
first. A service that nobody has registered is exit code 3. The columns are id, address,
state, weight, zone, version, since, owner. With -o json those that can be sent to are
.instances and the others .others.`,
		Example: `  conclave service resolve web
  curl "http://$(conclave service resolve web --strategy weighted -o json | jq -r '.instances[0].addr')/"
  conclave service resolve cache --strategy rendezvous --key user-42`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			picks := cmd.Flags().Changed("strategy")
			if picks {
				if _, err := c.options(); err != nil {
					return err
				}
			}
			return a.withNamedService(cmd.Context(), args[0], answering, func(ctx context.Context, t target, s services) error {
				resp, err := ask(ctx, s, discoveryv1.DiscoveryServiceClient.Resolve, &discoveryv1.ResolveRequest{Namespace: a.namespace(t), Name: args[0]})
				if err != nil {
					return err
				}
				v := serviceViewOf(resp)
				if len(v.Instances)+len(v.Others) == 0 {
					return noService(args[0])
				}
				if picks {
					if err := c.pick(args[0], &v); err != nil {
						return err
					}
				}
				return a.printServiceView(v)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&c.strategy, "strategy", "", "choose one: "+strings.Join(strategies, ", "))
	fs.StringVar(&c.key, "key", "", "what stays with one instance, for sticky and rendezvous")
	fs.StringVar(&c.zone, "zone", "", "with --strategy: prefer instances of this zone")
	return cmd
}

func (a *app) printServiceView(v serviceView) error {
	if a.flags.output.value != outputTable {
		return a.print(v, nil)
	}
	return a.printList(v, []string{"ID", "ADDRESS", "STATE", "WEIGHT", "ZONE", "VERSION", "SINCE", "OWNER"}, a.instanceRows(v.Instances, v.Others))
}

func (a *app) serviceListCommand() *cobra.Command {
	type view struct {
		Name      string `json:"name"`
		Instances int32  `json:"instances"`
		Usable    int32  `json:"usable"`
	}
	return &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List the services",
		Long: `ls lists the services that have an instance, those whose name begins with PREFIX. The
columns are name, how many instances are registered, and how many of them can be sent
to.`,
		Example: `  conclave service ls
  conclave service ls -o json | jq -r '.[] | select(.usable == 0) | .name'`,
		Args: atMostOne("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withServices(cmd.Context(), answering, func(ctx context.Context, t target, s services) error {
				all, err := allServices(ctx, s, a.namespace(t), strings.Join(args, ""))
				if err != nil {
					return err
				}
				views, rows := []view{}, [][]string{}
				for _, s := range all {
					views = append(views, view{s.GetName(), s.GetInstances(), s.GetUsable()})
					rows = append(rows, []string{clean(s.GetName()), strconv.Itoa(int(s.GetInstances())), strconv.Itoa(int(s.GetUsable()))})
				}
				return a.printList(views, []string{"NAME", "INSTANCES", "USABLE"}, rows)
			})
		},
	}
}

func (a *app) serviceDrainCommand() *cobra.Command {
	var maintenance, undo bool
	cmd := &cobra.Command{
		Use:   "drain NAME ID",
		Short: "Take an instance out of service, or give it back",
		Long: `drain marks instance ID of service NAME as draining: readers send it nothing new, and it
ends what it has begun. The mark stays until it is taken away, whatever the program says
that registered the instance, and for as long as it is registered.`,
		Example: `  conclave service drain web web-1
  conclave service drain web web-1 --maintenance
  conclave service drain web web-1 --undo`,
		Args: exactly(2, "NAME ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			mark := discovery.Draining
			switch {
			case maintenance && undo:
				return usage("invalid_maintenance", "give one of the two", "--maintenance and --undo exclude each other")
			case maintenance:
				mark = discovery.Maintenance
			case undo:
				mark = ""
			}
			if err := keyspace.CheckName("id", args[1]); err != nil {
				return usage("invalid_id", "", "%s", err)
			}
			return a.withNamedService(cmd.Context(), args[0], answering, func(ctx context.Context, t target, s services) error {
				_, err := ask(ctx, s, discoveryv1.DiscoveryServiceClient.Mark, &discoveryv1.MarkRequest{Namespace: a.namespace(t), Name: args[0], Id: args[1],
					State: string(mark), By: a.operator(t)})
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&maintenance, "maintenance", false, "mark it as in maintenance, not as draining")
	cmd.Flags().BoolVar(&undo, "undo", false, "take the mark away")
	return cmd
}

func (a *app) serviceWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch NAME",
		Short: "Follow where a service can be reached",
		Long: `watch prints the instances of service NAME, and all of them again with every change. It
goes on when hosts and etcd come and go, and keeps what was known while they are away.
The columns are revision, how many can be sent to, how many others there are, whether it
may be out of date, and the addresses that can be sent to. With -o json each line is one
document, as of service resolve.`,
		Example: `  conclave service watch web
  conclave service watch web -o json | jq --unbuffered -r '[.instances[].addr] | join(" ")'`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, restore := signal.NotifyContext(cmd.Context(), ending()...)
			defer restore()
			err := a.withNamedService(ctx, args[0], 0, func(ctx context.Context, t target, s services) error {
				w := serviceWatch{app: a, s: s, name: args[0], namespace: a.namespace(t)}
				return w.run(ctx, t)
			})
			if ctx.Err() != nil && cmd.Context().Err() == nil {
				return nil // interrupted, which is how it ends
			}
			return err
		},
	}
}

// A serviceWatch follows a service at one host after the other.
type serviceWatch struct {
	*app
	s               services
	name, namespace string
	told            string // what was printed last, but for its revision
}

func (w *serviceWatch) run(ctx context.Context, t target) error {
	for wait := askAgain; ; wait = min(2*wait, askAgainMost) {
		before := w.told
		err := w.s.Do(ctx, func(cc grpc.ClientConnInterface) error { return w.follow(ctx, w.s.client(cc)) })
		if ctx.Err() != nil || w.told == "" || !passing(explain(ctx, t, err)) {
			return err
		}
		if w.told != before {
			wait = askAgain
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

func (w *serviceWatch) follow(ctx context.Context, at discoveryv1.DiscoveryServiceClient) error {
	stream, err := at.Watch(ctx, &discoveryv1.WatchRequest{Namespace: w.namespace, Name: w.name})
	if err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		v := serviceViewOf(resp)
		v.Service, v.Kept = resp.GetName(), resp.GetKept()
		if told := fmt.Sprint(v.Stale, v.Kept, resp.GetInstances(), resp.GetOthers()); told != w.told { // else another host begins with it again
			w.told = told
			if err := w.tell(v); err != nil {
				return err
			}
		}
	}
}

func (w *serviceWatch) tell(v serviceView) error {
	addrs := make([]string, 0, len(v.Instances))
	for _, i := range v.Instances {
		addrs = append(addrs, clean(i.Addr))
	}
	stale := "fresh"
	if v.Stale {
		stale = "stale"
	}
	return w.print(v, [][]string{{strconv.FormatInt(v.Revision, 10), strconv.Itoa(len(v.Instances)), strconv.Itoa(len(v.Others)), stale, strings.Join(addrs, ",")}})
}

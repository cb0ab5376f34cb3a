package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/cmd/conclave/internal/catalog"
	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
)

// recipeView is a recipe as `recipe ls` prints it.
type recipeView struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Mode     string   `json:"mode"`
	State    string   `json:"state"`
	Summary  string   `json:"summary"`
	Services []string `json:"services"`
	Message  string   `json:"message,omitempty"`
	Restarts int64    `json:"restarts,omitempty"`
}

func recipeOf(r *hostv1.Recipe) recipeView {
	return recipeView{Name: r.GetName(), Version: r.GetVersion(), Mode: word(r.GetMode().String(), "RECIPE_MODE_"),
		State: word(r.GetState().String(), "RECIPE_STATE_"), Summary: r.GetSummary(), Services: append([]string{}, r.GetServices()...),
		Message: r.GetMessage(), Restarts: r.GetRestarts()}
}

// word is an enum's value as people write it.
func word(value, prefix string) string { return strings.ToLower(strings.TrimPrefix(value, prefix)) }

func (a *app) recipeCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "recipe",
		Short:   "List the recipes of a host, and describe their methods",
		Example: "  conclave recipe ls\n  conclave recipe describe lock",
	})
	cmd.AddCommand(a.recipeListCommand(), a.recipeDescribeCommand())
	return cmd
}

func (a *app) recipeListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the recipes of a host",
		Example: "  conclave recipe ls\n  conclave recipe ls -o json | jq -r '.[].services[]'",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withHost(cmd.Context(), "recipe ls", func(ctx context.Context, c *remote.Client) error {
				recipes, err := listRecipes(ctx, c)
				if err != nil {
					return err
				}
				views, rows := []recipeView{}, [][]string{}
				for _, r := range recipes {
					v := recipeOf(r)
					views = append(views, v)
					rows = append(rows, []string{clean(v.Name), clean(v.Version), v.Mode, v.State, strings.Join(v.Services, ","), clean(v.Summary)})
				}
				return a.printList(views, []string{"NAME", "VERSION", "MODE", "STATE", "SERVICES", "SUMMARY"}, rows)
			})
		},
	}
}

// withHost runs work with a host.
func (a *app) withHost(ctx context.Context, command string, work func(ctx context.Context, c *remote.Client) error) error {
	t, c, err := a.hostOnly(command)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := a.bounded(ctx, answering)
	defer cancel()
	return explain(ctx, t, work(ctx, c))
}

func listRecipes(ctx context.Context, c *remote.Client) ([]*hostv1.Recipe, error) {
	var resp *hostv1.ListRecipesResponse
	err := c.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
		resp, err = hostv1.NewHostServiceClient(cc).ListRecipes(ctx, &hostv1.ListRecipesRequest{})
		return err
	})
	return resp.GetRecipes(), err
}

func (a *app) recipeDescribeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "describe NAME",
		Short: "Describe every method of a recipe with its fields",
		Long: `describe prints every method of a recipe as conclave call takes it, what it needs of
its caller, and the fields of its request ("in") and answer ("out") under their names
in JSON. NAME is a recipe's name, or that of a service; host and session are the
host's own. It is read from the host's descriptors, so recipes of third parties are
described like the standard ones.`,
		Example: "  conclave recipe describe lock\n  conclave recipe describe conclave.session.v1.SessionService -o json",
		Args:    exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withHost(cmd.Context(), "recipe describe", func(ctx context.Context, c *remote.Client) error {
				methods, err := describeRecipe(ctx, c, args[0])
				if err != nil {
					return err
				}
				var rows [][]string
				for _, m := range methods {
					rows = append(rows, methodRows(m)...)
				}
				return a.print(methods, rows)
			})
		},
	}
}

func describeRecipe(ctx context.Context, c *remote.Client, name string) ([]catalog.Method, error) {
	recipes, err := listRecipes(ctx, c)
	if err != nil {
		return nil, err
	}
	var methods []catalog.Method
	err = c.Do(ctx, func(cc grpc.ClientConnInterface) error {
		methods = nil
		all, err := catalog.Services(ctx, cc)
		if err != nil {
			return err
		}
		services, err := servicesOf(name, recipes, all)
		if err != nil {
			return err
		}
		for _, service := range services {
			s, err := catalog.Load(ctx, cc, service)
			if err != nil {
				return err
			}
			methods = append(methods, catalog.Describe(s)...)
		}
		return nil
	})
	return methods, noReflection(err)
}

// servicesOf finds what a name means: a recipe, a service, or a part of the host
// itself, whose package says its name.
func servicesOf(name string, recipes []*hostv1.Recipe, all []string) ([]string, error) {
	var known []string
	for _, r := range recipes {
		if r.GetName() == name {
			if len(r.GetServices()) == 0 {
				return nil, notFound("see conclave recipe ls", "recipe %q serves nothing now: it is %s", name, recipeOf(r).State)
			}
			return r.GetServices(), nil
		}
		known = append(known, r.GetName())
	}
	var services []string
	for _, s := range all {
		if s == name || strings.HasPrefix(s, "conclave."+name+".") || strings.HasSuffix(s, "."+name) {
			services = append(services, s)
		}
	}
	if len(services) > 0 {
		return services, nil
	}
	hint := didYouMean(name, slices.Concat(known, all), "")
	if hint == "" {
		hint = "there are: " + strings.Join(known, ", ")
	}
	return nil, notFound(hint, "there is no recipe %q", name)
}

func methodRows(m catalog.Method) [][]string {
	needs := []string{m.Permission}
	if m.Idempotency == "idempotent" {
		needs = append(needs, "may be repeated")
	}
	if m.ClientStream {
		needs = append(needs, "takes a stream")
	}
	if m.ServerStream {
		needs = append(needs, "answers with a stream")
	}
	rows := [][]string{{m.Name, strings.Join(needs, ", "), clean(m.Summary)}}
	rows = append(rows, fieldRows("  in  ", m.Request.Fields, m)...)
	rows = append(rows, fieldRows("  out ", m.Response.Fields, catalog.Method{})...)
	return rows
}

func fieldRows(indent string, fields []catalog.Field, m catalog.Method) [][]string {
	var rows [][]string
	for _, f := range fields {
		kind := f.Type
		switch {
		case f.Repeated:
			kind = "list of " + kind
		case f.Map:
			kind = "map of " + kind
		}
		note := ""
		switch {
		case f.Name == m.SessionField && f.Name != "" && m.SessionOptional:
			note = "your session; may be empty"
		case f.Name == m.SessionField && f.Name != "":
			note = "your session, from SessionService/Open"
		case len(f.Values) > 0:
			note = strings.Join(f.Values, ", ")
		case f.Oneof != "":
			note = "one of " + f.Oneof
		}
		rows = append(rows, []string{indent + f.Name, kind, note})
		rows = append(rows, fieldRows(indent+"  ", f.Fields, catalog.Method{})...)
	}
	return rows
}

package cli

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
)

type authRoleFlags struct {
	name, user string
	readOnly   bool
}

func (a *app) authRoleCommand() *cobra.Command {
	var f authRoleFlags
	cmd := &cobra.Command{
		Use:   "role",
		Short: "Print the commands that make the least role for hosts and libraries",
		Long: `role prints the etcdctl commands that make an etcd role with what Conclave needs, and no
more: its own keys. Nothing is changed until they run. A host needs all keys below
/conclave/; a program that uses the libraries, and keeps to one namespace, only those of
--namespace; one that only reads, such as a resolver, --read-only.

Leases need no permission of their own in etcd: whoever is logged in may have some.
Snapshots, members and compaction need the role root, and a host without it does
everything else.`,
		Example: `  conclave auth role                                    # read them first
  conclave auth role --user conclave | sh
  conclave auth role --namespace shop --name shop | ETCDCTL_USER=root:… sh`,
		Args: exactly(0, ""),
		RunE: func(*cobra.Command, []string) error { return a.authRole(f) },
	}
	cmd.Flags().StringVar(&f.name, "name", "conclave", "the role's name")
	cmd.Flags().StringVar(&f.user, "user", "", "also make this user, with the role; etcdctl asks for the password")
	cmd.Flags().BoolVar(&f.readOnly, "read-only", false, "let it read, and change nothing")
	return cmd
}

// roleDoc is the role as -o json prints it.
type roleDoc struct {
	Name       string `json:"name"`
	Permission string `json:"permission"`
	Key        string `json:"key"`
	RangeEnd   string `json:"rangeEnd"`
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_.@][A-Za-z0-9_.@-]*$`)

func (a *app) authRole(f authRoleFlags) error {
	for flag, name := range map[string]string{"name": f.name, "user": f.user} {
		if name != "" && !plainName.MatchString(name) {
			return usage("invalid_"+flag, "letters, digits and _ . @ -", "--%s: %q cannot be given to a shell as it is", flag, name)
		}
	}
	prefix := keyspace.Root
	if namespace := a.setting(a.flags.namespace, "CONCLAVE_NAMESPACE", ""); namespace != "" {
		if err := keyspace.CheckNamespace("--namespace", namespace); err != nil {
			return usage("invalid_namespace", "", "%s", err)
		}
		prefix += keyspace.Escape(namespace) + "/"
	}
	permission := "readwrite"
	if f.readOnly {
		permission = "read"
	}
	lines := []string{
		"conclave etcdctl role add " + f.name,
		fmt.Sprintf("conclave etcdctl role grant-permission %s %s --prefix %s", f.name, permission, shellWord(prefix)),
	}
	if f.user != "" {
		lines = append(lines, "conclave etcdctl user add "+f.user, fmt.Sprintf("conclave etcdctl user grant-role %s %s", f.user, f.name))
	}
	if a.flags.output.value != outputTable {
		return a.print(roleDoc{f.name, permission, prefix, clientv3.GetPrefixRangeEnd(prefix)}, nil)
	}
	_, err := fmt.Fprintln(a.stdout, strings.Join(lines, "\n"))
	return err
}

// shellWord is a key as a shell takes it; escaped keys have no quote in them.
func shellWord(key string) string { return "'" + key + "'" }

package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/internal/certs"
)

const (
	authorityLife = 365 * 24 * time.Hour
	certLife      = 30 * 24 * time.Hour
)

// The authorities of a directory: of callers and etcd's clients, and of members.
// A client's certificate must not let anybody into raft.
const (
	callersCA = "ca"
	peersCA   = "peer-ca"
)

type certsFlags struct {
	dir   string
	hosts []string
	life  time.Duration
}

func (a *app) certsCommand() *cobra.Command {
	var f certsFlags
	cmd := group(&cobra.Command{
		Use:   "certs",
		Short: "Make certificates for development and small clusters",
		Long: `certs keeps an authority in a directory and signs certificates with it, for the API, for
etcd's clients and, by an authority of their own, for the members of a cluster. They
live for 30 days unless --life says otherwise: run the command again, and hosts take
the new ones without a restart.

Whoever has ca-key.pem can sign what every host trusts. Keep it off the hosts.`,
		Example: `  conclave certs host host-1 --host host-1.internal --host 10.0.0.1     # for a host and its etcd
  conclave certs client alice                                           # for --cert and --key
  conclave certs ls                                                     # what there is, and until when`,
	})
	cmd.PersistentFlags().StringVar(&f.dir, "dir", "certs", "directory of the authority and of what it signed")
	host := &cobra.Command{
		Use:   "host NAME",
		Short: "Sign certificates for a host, and print its configuration",
		Example: `  conclave certs host host-1 --host host-1.internal --host 10.0.0.1
  conclave certs host dev >> conclave.yaml      # for this machine alone`,
		Args: exactly(1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error { return a.certsHost(args[0], f) },
	}
	host.Flags().StringArrayVar(&f.hosts, "host", nil, "name or address under which others reach it, beside localhost; may be repeated")
	client := &cobra.Command{
		Use:   "client NAME",
		Short: "Sign a certificate for a caller",
		Long: `client signs a certificate for a caller of the API or of etcd. Where etcd's
authentication is on, etcd takes NAME for its user.`,
		Example: `  conclave certs client alice
  conclave lock ls --api https://10.0.0.1:2378 --cacert certs/ca.pem --cert certs/alice.pem --key certs/alice-key.pem`,
		Args: exactly(1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error { return a.certsClient(args[0], f) },
	}
	for _, c := range []*cobra.Command{host, client} {
		c.Flags().DurationVar(&f.life, "life", certLife, "how long the certificate is good, from a minute to the end of its authority")
	}
	cmd.AddCommand(host, client, &cobra.Command{
		Use: "ls", Short: "List the certificates of a directory, and when they end", Args: exactly(0, ""),
		Example: "  conclave certs ls --dir /etc/conclave/certs",
		RunE:    func(*cobra.Command, []string) error { return a.certsList(f) },
	})
	return cmd
}

var certName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// check refuses what cannot be a file's name, or would replace an authority.
func (f certsFlags) check(name string) error {
	switch {
	case !certName.MatchString(name):
		return usage("invalid_name", "", "NAME: %q is not 1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit", name)
	case slices.Contains([]string{callersCA, peersCA, callersCA + "-key", peersCA + "-key"}, name):
		return usage("invalid_name", "", "NAME: %q is the authority's own", name)
	case f.life < time.Minute:
		return usage("invalid_life", "", "--life: %s is under the least, 1m", f.life)
	}
	for _, h := range f.hosts {
		if h == "" || strings.ContainsAny(h, " /:") && !strings.Contains(h, "::") {
			return usage("invalid_host", "such as host-1.internal or 10.0.0.1", "--host: %q is neither a name nor an address", h)
		}
	}
	return nil
}

func (f certsFlags) cert(name string) string { return filepath.Join(f.dir, name+".pem") }
func (f certsFlags) key(name string) string  { return filepath.Join(f.dir, name+"-key.pem") }

// authority reads an authority, or makes it when there is none.
func (a *app) authority(f certsFlags, name string) (*certs.Pair, error) {
	p, err := certs.Read(f.cert(name), f.key(name))
	if err == nil {
		return p, nil
	}
	// Half of an authority is not replaced: what it signed would end with it.
	if !errors.Is(err, fs.ErrNotExist) || exists(f.cert(name)) || exists(f.key(name)) {
		return nil, fmt.Errorf("the authority in %s cannot be read: %w", f.dir, err)
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	if p, err = certs.NewAuthority("conclave "+name, authorityLife); err != nil {
		return nil, err
	}
	a.note("made the authority " + f.cert(name))
	err = p.Write(f.cert(name), f.key(name))
	return p, err
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}

func (a *app) sign(f certsFlags, authority, file string, r certs.Request) error {
	ca, err := a.authority(f, authority)
	if err != nil {
		return err
	}
	p, err := ca.Sign(r)
	if err != nil {
		return err
	}
	if err := p.Write(f.cert(file), f.key(file)); err != nil {
		return err
	}
	a.note(fmt.Sprintf("%s is good until %s", f.cert(file), p.Cert.NotAfter.Format(time.RFC3339)))
	return nil
}

func (a *app) certsHost(name string, f certsFlags) error {
	if err := f.check(name); err != nil {
		return err
	}
	r := certs.Request{Name: name, Hosts: append([]string{"localhost", "127.0.0.1", "::1"}, f.hosts...), Server: true, Client: true, Life: f.life}
	if err := a.sign(f, callersCA, name, r); err != nil {
		return err
	}
	if err := a.sign(f, peersCA, name+"-peer", r); err != nil {
		return err
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return err
	}
	section := func(name, ca string) string {
		return fmt.Sprintf("{cert: %q, key: %q, ca: %q}", filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"), filepath.Join(dir, ca+".pem"))
	}
	_, err = fmt.Fprintf(a.stdout, "tls: %s\netcd:\n  client_tls: %s\n  peer_tls: %s\n", section(name, callersCA), section(name, callersCA), section(name+"-peer", peersCA))
	return err
}

func (a *app) certsClient(name string, f certsFlags) error {
	if err := f.check(name); err != nil {
		return err
	}
	if err := a.sign(f, callersCA, name, certs.Request{Name: name, Client: true, Life: f.life}); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "--cacert %s --cert %s --key %s\n", f.cert(callersCA), f.cert(name), f.key(name))
	return err
}

type certDoc struct {
	Name    string    `json:"name"`
	File    string    `json:"file"`
	Hosts   []string  `json:"hosts"`
	Expires time.Time `json:"expires"`
	State   string    `json:"state"` // valid or expired
}

func (a *app) certsList(f certsFlags) error {
	files, err := filepath.Glob(filepath.Join(f.dir, "*.pem"))
	if err != nil {
		return err
	}
	docs, rows := []certDoc{}, [][]string{}
	for _, file := range files {
		c, err := certs.ReadCert(file)
		if err != nil {
			continue // a key
		}
		d := certDoc{Name: c.Subject.CommonName, File: file, Hosts: append([]string{}, c.DNSNames...), Expires: c.NotAfter, State: "valid"}
		for _, ip := range c.IPAddresses {
			d.Hosts = append(d.Hosts, ip.String())
		}
		if time.Now().After(c.NotAfter) {
			d.State = "expired"
		}
		docs = append(docs, d)
		rows = append(rows, []string{d.Name, d.File, strings.Join(d.Hosts, ","), d.Expires.Format(time.RFC3339), d.State})
	}
	if len(docs) == 0 {
		return &Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found", Message: "no certificates in " + f.dir, Hint: "make some: conclave certs host NAME"}
	}
	return a.printList(docs, []string{"NAME", "FILE", "HOSTS", "EXPIRES", "STATE"}, rows)
}

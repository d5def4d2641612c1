// Stand-in for amazon-ecs-init and the ECS agent it starts: state on disk, introspection, credentials address, docker.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"ovenproof.invalid/standins/host"
)

// exitTerminal is the agent's code for what a restart cannot cure; ecs.service does not restart on it.
const exitTerminal = 5

var version = "unset" // set when the package is built

// errTerminal marks an error that a restart cannot cure.
var errTerminal = errors.New("terminal")

// state is what the agent keeps between starts.
type state struct {
	Cluster              string
	ContainerInstanceArn string
	EC2InstanceID        string
}

// machine is all that the agent touches, so that tests can hand in another one.
type machine struct {
	cluster       string
	stateFile     string
	dockerSocket  string
	metadataURL   string
	introspection string
	credentials   string
}

func main() {
	log.SetFlags(0) // the journal has the time
	action := "start"
	if len(os.Args) > 1 {
		action = os.Args[1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var err error
	switch action {
	case "pre-start":
		err = routeCredentials(ctx)
	case "start":
		err = run(ctx, thisMachine())
	default:
		err = fmt.Errorf("unknown action %q: expected pre-start or start", action)
	}
	if err == nil {
		return
	}
	log.Print(err)
	if errors.Is(err, errTerminal) {
		os.Exit(exitTerminal)
	}
	os.Exit(1)
}

func thisMachine() machine {
	cluster := os.Getenv("ECS_CLUSTER")
	if cluster == "" {
		cluster = "default"
	}
	folder := os.Getenv("ECS_DATADIR")
	if folder == "" {
		folder = "/var/lib/ecs/data"
	}
	return machine{
		cluster:       cluster,
		stateFile:     filepath.Join(folder, "agent.db"),
		dockerSocket:  "/var/run/docker.sock",
		metadataURL:   host.MetadataURL,
		introspection: "127.0.0.1:51678",
		credentials:   "127.0.0.1:51679",
	}
}

// routeCredentials sends what tasks ask of 169.254.170.2 to the agent, as ecs-init does before the agent starts.
func routeCredentials(ctx context.Context) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0); err != nil {
		return err
	}
	rules := [][]string{
		{"PREROUTING", "-p", "tcp", "-d", "169.254.170.2", "--dport", "80", "-j", "DNAT", "--to-destination", "127.0.0.1:51679"},
		{"OUTPUT", "-p", "tcp", "-d", "169.254.170.2", "--dport", "80", "-j", "REDIRECT", "--to-ports", "51679"},
	}
	for _, rule := range rules {
		if exec.CommandContext(ctx, "iptables", append([]string{"-w", "-t", "nat", "-C"}, rule...)...).Run() == nil {
			continue // left by an earlier start
		}
		said, err := exec.CommandContext(ctx, "iptables", append([]string{"-w", "-t", "nat", "-A"}, rule...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("iptables %v: %w: %s", rule, err, said)
		}
	}
	return nil
}

// run registers the instance and serves until ctx ends, which is no error.
func run(ctx context.Context, here machine) error {
	if err := pingDocker(ctx, here.dockerSocket); err != nil {
		return fmt.Errorf("docker does not answer: %w", err)
	}
	identity, err := host.GetIdentity(ctx, here.metadataURL)
	if err != nil {
		return fmt.Errorf("no identity from the instance metadata service: %w", err)
	}
	saved, err := register(here, identity)
	if err != nil {
		return err
	}
	log.Printf("ECS agent stand-in %s registered %s", version, saved.ContainerInstanceArn)
	return serve(ctx, here, saved)
}

func pingDocker(ctx context.Context, socket string) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 30 * time.Second}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || string(body) != "OK" {
		return fmt.Errorf("_ping answered %s %q", response.Status, body)
	}
	return nil
}

// register returns the saved state of this instance, or makes it. State of another cluster stops the agent for good;
// state of another instance, as an image that was not cleaned up has, is replaced. The real agent does the same.
func register(here machine, identity host.Identity) (state, error) {
	var saved state
	content, err := os.ReadFile(here.stateFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return saved, err
	default:
		if err := json.Unmarshal(content, &saved); err != nil {
			return saved, fmt.Errorf("%w: %s is damaged: %w", errTerminal, here.stateFile, err)
		}
		if saved.Cluster != here.cluster {
			return saved, fmt.Errorf("%w: Data mismatch; saved cluster '%s' does not match configured cluster '%s'",
				errTerminal, saved.Cluster, here.cluster)
		}
		if saved.EC2InstanceID == identity.InstanceID {
			return saved, nil
		}
		log.Printf("Data mismatch; saved InstanceID '%s' does not match current InstanceID '%s'. Overwriting old datafile",
			saved.EC2InstanceID, identity.InstanceID)
	}
	id := make([]byte, 16)
	rand.Read(id)
	saved = state{
		Cluster: here.cluster,
		ContainerInstanceArn: fmt.Sprintf("arn:aws:ecs:%s:%s:container-instance/%s/%s",
			identity.Region, identity.AccountID, here.cluster, hex.EncodeToString(id)),
		EC2InstanceID: identity.InstanceID,
	}
	return saved, save(here.stateFile, saved)
}

func save(path string, saved state) error {
	content, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part := path + ".part"
	if err := os.WriteFile(part, content, 0o600); err != nil {
		return err
	}
	return os.Rename(part, path)
}

func serve(ctx context.Context, here machine, saved state) error {
	introspection := http.NewServeMux()
	introspection.HandleFunc("GET /v1/metadata", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{
			"Cluster":              saved.Cluster,
			"ContainerInstanceArn": saved.ContainerInstanceArn,
			"Version":              "Amazon ECS Agent - v" + version + " (stand-in)",
		})
	})
	introspection.HandleFunc("GET /v1/tasks", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string][]string{"Tasks": {}})
	})
	credentials := http.NewServeMux()
	credentials.HandleFunc("GET /v2/credentials/{id}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusBadRequest, map[string]string{"code": "InvalidIdInRequest", "message": "no task runs here"})
	})
	ended := make(chan error, 2)
	for address, handler := range map[string]http.Handler{here.introspection: introspection, here.credentials: credentials} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		defer listener.Close()
		server := http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
		go func() { ended <- server.Serve(listener) }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err)
	}
}

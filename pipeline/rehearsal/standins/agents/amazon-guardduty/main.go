// Stand-in for the GuardDuty runtime agent: the real one's prerequisites, exits and log place; no events but a heartbeat.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ovenproof.invalid/standins/host"
)

const (
	memlockNeeded  = 32 << 20 // soft and hard, on kernels up to 5.10
	heartbeatEvery = 2 * time.Second
	missesAllowed  = 3
)

var version = "unset" // set when the package is built

// failure is a prerequisite that is missing; every kind has its own exit code.
type failure struct {
	code int
	text string
}

func (f failure) Error() string { return f.text }

// machine is all that the agent looks at, so that tests can hand in another one.
type machine struct {
	btfFile       string
	kernelRelease string
	memlock       syscall.Rlimit
	metadataURL   string
	dataURL       func(region string) string
	heartbeat     time.Duration
}

func main() {
	logFile, err := openLog("/var/log/amzn-guardduty-agent/agent.log")
	if err != nil {
		log.Print(err)
		os.Exit(1)
	}
	log.SetOutput(io.MultiWriter(os.Stdout, logFile))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	here, err := thisMachine()
	if err == nil {
		err = run(ctx, here)
	}
	if err == nil {
		log.Print("stopped")
		return
	}
	log.Print(err)
	code := 1
	if missing := (failure{}); errors.As(err, &missing) {
		code = missing.code
	}
	log.Printf("exiting with code %d", code)
	os.Exit(code)
}

// run checks the prerequisites and then sends heartbeats until ctx ends, which is no error.
func run(ctx context.Context, here machine) error {
	log.Printf("GuardDuty agent stand-in %s starting on kernel %s", version, here.kernelRelease)
	if err := checkKernel(here); err != nil {
		return err
	}
	log.Print("kernel has BTF and the locked-memory limit suffices")
	identity, err := host.GetIdentity(ctx, here.metadataURL)
	if err != nil {
		return failure{5, fmt.Sprintf("Unable to retrieve instance identity document. (%v)", err)}
	}
	url := here.dataURL(identity.Region) + "/heartbeat"
	log.Printf("instance %s in %s, sending to %s", identity.InstanceID, identity.Region, url)
	misses := 0
	for first := true; ; first = false {
		err := beat(ctx, url, identity)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			misses = 0
		default:
			if misses++; first || misses == missesAllowed {
				return failure{6, fmt.Sprintf("cannot reach the GuardDuty data endpoint: %v", err)}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(here.heartbeat):
		}
	}
}

func checkKernel(here machine) error {
	if _, err := os.Stat(here.btfFile); err != nil {
		return failure{3, "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF): " + err.Error()}
	}
	old, err := upTo510(here.kernelRelease)
	if err != nil {
		return err
	}
	if old && (here.memlock.Cur < memlockNeeded || here.memlock.Max < memlockNeeded) {
		return failure{4, fmt.Sprintf("RLIMIT_MEMLOCK is %d soft, %d hard; kernels up to 5.10 need %d",
			here.memlock.Cur, here.memlock.Max, memlockNeeded)}
	}
	return nil
}

func upTo510(release string) (bool, error) {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 3 {
		return false, fmt.Errorf("kernel release %q has no version", release)
	}
	major, majorErr := strconv.Atoi(parts[0])
	minor, minorErr := strconv.Atoi(parts[1])
	if err := errors.Join(majorErr, minorErr); err != nil {
		return false, fmt.Errorf("kernel release %q has no version: %w", release, err)
	}
	return major < 5 || (major == 5 && minor <= 10), nil
}

func beat(ctx context.Context, url string, identity host.Identity) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := json.Marshal(map[string]any{"identityDocument": identity.Document, "agentVersion": version})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", response.Status)
	}
	return nil
}

func thisMachine() (machine, error) {
	here := machine{
		btfFile:     "/sys/kernel/btf/vmlinux",
		metadataURL: host.MetadataURL,
		// The real endpoint speaks TLS; a stand-in's certificate would prove nothing.
		dataURL:   func(region string) string { return "http://guardduty-data." + region + ".amazonaws.com:443" },
		heartbeat: heartbeatEvery,
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return here, err
	}
	here.kernelRelease = strings.TrimSpace(string(release))
	// The number of RLIMIT_MEMLOCK; Go's syscall package has no name for it.
	return here, syscall.Getrlimit(8, &here.memlock)
}

func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
}

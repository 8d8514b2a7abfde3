package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const timeout = 5 * time.Second

func callForever(targets []string) {
	if len(targets) == 0 {
		fail(usage)
	}
	for {
		for _, target := range targets {
			start := time.Now()
			result := call(target)
			took := time.Since(start).Round(time.Millisecond)
			fmt.Println(start.UTC().Format(time.RFC3339), target, result, took)
		}
		time.Sleep(time.Second)
	}
}

func call(target string) string {
	if address, ok := strings.CutPrefix(target, "tcp://"); ok {
		return callTCP(address)
	}
	client := http.Client{Timeout: timeout}
	response, err := client.Get(target)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	// Read to the end, so that the connection is kept for the next call, as real clients do.
	_, _ = io.Copy(io.Discard, response.Body)
	return response.Status
}

func callTCP(address string) string {
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	fmt.Fprintln(conn, "hello")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return "echo " + strings.TrimSpace(line)
}

type headers struct{ http.Header }

func (h headers) String() string { return "" }

func (h headers) Set(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return errors.New("a header is 'name: value'")
	}
	h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	return nil
}

func get(args []string) int {
	flags := flag.NewFlagSet("get", flag.ExitOnError)
	header := headers{http.Header{}}
	flags.Var(header, "H", "request header 'name: value'; may be repeated")
	insecure := flags.Bool("k", false, "do not verify the server's certificate")
	ca := flags.String("c", "", "file with the CA certificates to trust")
	server := flags.String("s", "", "connect to this HOST:PORT, whatever the URL says")
	_ = flags.Parse(args)
	if flags.NArg() != 1 {
		fail(usage)
	}
	request, err := http.NewRequest(http.MethodGet, flags.Arg(0), nil)
	if err != nil {
		fail(err)
	}
	request.Header = header.Header
	request.Host = header.Get("Host")
	client := http.Client{
		Timeout:   30 * time.Second,
		Transport: transport(*server, tlsConfig(*insecure, *ca)),
		// The answer itself is wanted, not where it points to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		fail(err)
	}
	defer response.Body.Close()
	fmt.Println(response.Proto, response.Status)
	_ = response.Header.Write(os.Stdout)
	fmt.Println()
	_, _ = io.Copy(os.Stdout, response.Body)
	if response.StatusCode >= 400 {
		return 1
	}
	return 0
}

func tlsConfig(insecure bool, ca string) *tls.Config {
	config := &tls.Config{InsecureSkipVerify: insecure}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			fail(err)
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	return config
}

func transport(server string, config *tls.Config) *http.Transport {
	dialer := net.Dialer{Timeout: timeout}
	return &http.Transport{
		TLSClientConfig: config,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if server != "" {
				address = server
			}
			return dialer.DialContext(ctx, network, address)
		},
	}
}

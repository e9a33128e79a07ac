"""Heads as real programs send them; names and values are made up, shapes and sizes are not."""

_COOKIE = "; ".join(f"pref_{n}={'0123456789abcdef' * 6}" for n in range(12))

CURL = (
    b"GET /api/items?page=2 HTTP/1.1\r\nHost: www.example.com\r\n"
    b"User-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"
)

WRK = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"

BROWSER = (
    "GET /products/shoes?colour=blue&size=42&sort=price HTTP/1.1\r\n"
    "Host: shop.example.com\r\n"
    "Connection: keep-alive\r\n"
    'sec-ch-ua: "Chromium";v="142", "Not_A Brand";v="99"\r\n'
    "sec-ch-ua-mobile: ?0\r\n"
    'sec-ch-ua-platform: "Linux"\r\n'
    "Upgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-User: ?1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Referer: https://shop.example.com/products\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    f"Cookie: {_COOKIE}\r\n\r\n"
).encode()

API_CLIENT = (
    "POST /v1/chat/completions HTTP/1.1\r\n"
    "Host: api.example.com\r\n"
    "Accept: application/json\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
    "Connection: keep-alive\r\n"
    "User-Agent: python-httpx/0.28.1\r\n"
    f"Authorization: Bearer {'x' * 120}\r\n"
    "Content-Type: application/json\r\n"
    "X-Request-Id: 6f9619ff-8b86-d011-b42d-00c04fc964ff\r\n"
    "Content-Length: 1834\r\n\r\n"
).encode()

REQUESTS = {"wrk": WRK, "curl": CURL, "browser": BROWSER, "api": API_CLIENT}

_UVICORN = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-length: 1834\r\ncontent-type: application/json\r\n\r\n"
)

_NGINX = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.31.3\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 13\r\nConnection: keep-alive\r\n\r\n"
)

_APPLICATION = (
    "HTTP/1.1 200 OK\r\n"
    "Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n"
    "Content-Type: text/html; charset=utf-8\r\n"
    "Transfer-Encoding: chunked\r\n"
    "Cache-Control: private, no-store, max-age=0, must-revalidate\r\n"
    "Strict-Transport-Security: max-age=63072000; includeSubDomains; preload\r\n"
    f"Content-Security-Policy: default-src 'self'; script-src 'self' {'https://cdn.example.com ' * 8}\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
    "Referrer-Policy: strict-origin-when-cross-origin\r\n"
    f"Set-Cookie: session={'s' * 160}; Path=/; Secure; HttpOnly; SameSite=Lax\r\n"
    f"Set-Cookie: csrf={'c' * 64}; Path=/; Secure; SameSite=Lax\r\n"
    "Vary: Accept-Encoding, Cookie\r\n\r\n"
).encode()

RESPONSES = {"nginx": _NGINX, "uvicorn": _UVICORN, "application": _APPLICATION}

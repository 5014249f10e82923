"""HTTP: one pool of connections, with limits, resume, retries, redirects and credentials per origin.

``adpm.net.client.Client`` is the interface. Nothing here knows what a registry is. http.client is imported below this
package and nowhere else, urllib3 only where there is a proxy; nothing is imported here, so that ``url`` stays light.
"""

using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;

namespace OutboxBus.TestServers.Finding;

// The management API, rather than rabbitmqctl, because it reaches a broker wherever it runs: one of this process, one of the parent
// process, one in a container or one that somebody named.
internal sealed class RabbitMqEndpoint(Uri amqp, Uri? management)
{
    // Not through a proxy: with HTTP_PROXY set, requests to 127.0.0.1 would be sent to it.
    private static readonly HttpClient s_http = new(new SocketsHttpHandler
    {
        UseProxy = false,
        ConnectTimeout = TimeSpan.FromSeconds(3),
    });

    private volatile bool _withoutManagement = management is null;

    public Uri Amqp => amqp;

    public Uri? Management => management;

    // Falls back to the virtual host of the URI when the broker offers no management API, or not to this user.
    public async Task<Uri> CreateVirtualHostAsync(string name)
    {
        if (_withoutManagement)
            return amqp;

        var (user, password) = Credentials();
        var path = Uri.EscapeDataString(name);
        if (!await PutAsync($"api/vhosts/{path}", new { }))
        {
            _withoutManagement = true;
            return amqp;
        }

        if (!await PutAsync($"api/permissions/{path}/{Uri.EscapeDataString(user)}", new { configure = ".*", write = ".*", read = ".*" }))
            throw new InvalidOperationException($"The virtual host {name} was created, but {user} may not be given permissions on it.");
        return new UriBuilder(amqp) { Path = path }.Uri;

        async Task<bool> PutAsync(string relative, object body)
        {
            using var request = new HttpRequestMessage(HttpMethod.Put, new Uri(management!, relative));
            request.Content = JsonContent.Create(body);
            request.Headers.Authorization = new AuthenticationHeaderValue(
                "Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes($"{user}:{password}")));
            HttpResponseMessage response;
            try
            {
                response = await s_http.SendAsync(request);
            }
            catch (HttpRequestException)
            {
                return false;
            }

            using (response)
            {
                if (response.StatusCode is HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden or HttpStatusCode.NotFound)
                    return false;
                response.EnsureSuccessStatusCode();
                return true;
            }
        }
    }

    private (string User, string Password) Credentials()
    {
        var parts = amqp.UserInfo.Split(':', 2);
        return parts is [{ Length: > 0 } user, var password]
            ? (Uri.UnescapeDataString(user), Uri.UnescapeDataString(password))
            : ("guest", "guest");
    }
}
